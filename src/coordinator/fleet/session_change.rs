//! What can happen to a session that outlives a connection, in log lines and in the metrics.

/// What happened to a session that outlives a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SessionChange {
    /// The connection ended, and its jobs wait.
    Waits,
    /// It goes on over another connection.
    Resumed,
    /// It ended while it waited.
    Lost(SessionLoss),
}

/// Why a session ended while it waited for its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SessionLoss {
    /// The agent did not return in time.
    WindowPassed,
    /// The agent opened another session.
    Replaced,
    /// The coordinator stops.
    Stopping,
}

impl SessionLoss {
    /// The word in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::WindowPassed => "window_passed",
            Self::Replaced => "replaced",
            Self::Stopping => "stopping",
        }
    }
}

impl SessionChange {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Waits,
        Self::Resumed,
        Self::Lost(SessionLoss::WindowPassed),
        Self::Lost(SessionLoss::Replaced),
        Self::Lost(SessionLoss::Stopping),
    ];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Resumed => "resumed",
            Self::Lost(cause) => cause.as_str(),
        }
    }
}
