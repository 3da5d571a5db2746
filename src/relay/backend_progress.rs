//! How far a backend has come with a response: written by the worker, read by the router.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a backend has come with a response.
#[derive(Default)]
pub(crate) struct BackendProgress {
    has_begun: AtomicBool,
    events: AtomicU64,
}

impl BackendProgress {
    /// A backend has begun to answer, whatever becomes of the answer: from here on it may have cost something.
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Whether one has.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Notes how many events of the stream a backend has sent: about one a token.
    pub(crate) fn note_events(&self, events: u64) {
        self.events.store(events, Ordering::Relaxed);
    }

    /// How many those are.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}
