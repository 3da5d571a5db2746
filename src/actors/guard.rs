//! The end of an actor as an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the running actors of one agent. It is 0 after the agent has stopped.
#[derive(Clone, Debug, Default)]
pub struct ActorCount(Arc<AtomicUsize>);

impl ActorCount {
    /// How many actors run now.
    #[cfg(feature = "testkit")]
    pub fn living(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// Part of every actor. It is dropped with the actor, after a stop and after a panic alike, and reports that.
pub(super) struct Guard {
    actor_count: ActorCount,
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
    pub(super) fn new(actor_count: &ActorCount, tell: impl FnOnce(End) + Send + 'static) -> Self {
        actor_count.0.fetch_add(1, Ordering::AcqRel);
        Self { actor_count: actor_count.clone(), tell: Some(Box::new(tell)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.actor_count.0.fetch_sub(1, Ordering::AcqRel);
        let end = if std::thread::panicking() { End::Panicked } else { End::Stopped };
        if let Some(tell) = self.tell.take() {
            tell(end);
        }
    }
}
