//! What became of a request that all agents were too busy for, in its log line and in the metrics.

/// How the wait of a request for a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum WaitOutcome {
    /// It has a slot.
    Served,
    /// There was no slot in time.
    TimedOut,
    /// It did not wait, because the queue was full.
    QueueFull,
    /// Another client's request took its place in the full queue.
    Displaced,
    /// The agents that it waited for are draining.
    Draining,
    /// The client ended its connection.
    ClientGone,
    /// The coordinator is being stopped.
    Stopping,
}

impl WaitOutcome {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Served,
        Self::TimedOut,
        Self::QueueFull,
        Self::Displaced,
        Self::Draining,
        Self::ClientGone,
        Self::Stopping,
    ];

    /// The word in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::TimedOut => "timed_out",
            Self::QueueFull => "queue_full",
            Self::Displaced => "displaced",
            Self::Draining => "draining",
            Self::ClientGone => "client_gone",
            Self::Stopping => "stopping",
        }
    }
}
