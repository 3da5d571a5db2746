//! The clock of a test.

/// The clock that agents under test use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Stopped, and moved on whenever nothing else is left to do: a minute of waiting takes no time. Everything that the
    /// agent talks to must then be on the test's own thread.
    Paused,
    /// As it is.
    Unchanged,
}

impl Clock {
    /// Before the first agent starts.
    pub(super) fn start(self) {
        if self == Self::Paused {
            tokio::time::pause();
        }
    }

    /// After the last agent has ended.
    pub(super) fn stop(self) {
        if self == Self::Paused {
            tokio::time::resume();
        }
    }
}
