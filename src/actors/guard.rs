//! The end of an actor as an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the living actors of one agent. When an agent has stopped it is zero.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<AtomicUsize>);

impl Census {
    /// How many live now.
    pub fn living(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// Part of every actor. It is dropped with the actor, after a stop and after a panic alike, and then says so.
pub(super) struct Guard {
    census: Census,
    tell: Option<Box<dyn FnOnce(End) + Send>>,
}

/// How an actor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was stopped.
    Stopped,
    /// It panicked.
    Panicked,
}

impl Guard {
    /// A guard that calls `tell` at the end, from whatever thread the actor lived on.
    pub(super) fn new(census: &Census, tell: impl FnOnce(End) + Send + 'static) -> Self {
        census.0.fetch_add(1, Ordering::AcqRel);
        Self { census: census.clone(), tell: Some(Box::new(tell)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.census.0.fetch_sub(1, Ordering::AcqRel);
        let end = if std::thread::panicking() { End::Panicked } else { End::Stopped };
        if let Some(tell) = self.tell.take() {
            tell(end);
        }
    }
}
