//! Where events go: to the log, and to the owner of the snapshot.

use std::sync::Arc;

use super::Event;
use super::event_log::EventLog;

/// Events of a kind that are logged one by one in a minute, if a peer can cause them at will.
const EACH: u32 = 10;

/// Takes events. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    sink: Box<dyn Fn(Event) + Send + Sync>,
    log: EventLog,
}

impl Events {
    /// Events that are logged and then passed to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { sink: Box::new(sink), log: EventLog::new(EACH) }))
    }

    /// Logs an event and passes it on. Of the events that a peer can cause at will only the first ten of a kind are logged
    /// until the next [`Self::count_repeats`].
    pub fn emit(&self, event: impl Into<Event>) {
        let event = event.into();
        self.0.log.write(event.describe());
        (self.0.sink)(event);
    }

    /// Reports how many events of each kind were not logged one by one. The connection calls it once a minute and at its end.
    pub fn count_repeats(&self) {
        for repeated in self.0.log.next_period() {
            self.emit(repeated);
        }
    }
}
