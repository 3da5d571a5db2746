//! Where events go: to the log, and to the owner of the snapshot.

use std::sync::{Arc, Mutex, PoisonError};

use log::{Level, Record};

use super::Event;
use super::agent::Repeated;
use crate::telemetry::repeats::Repeats;

/// Events of a kind that are logged one by one in a minute, if a peer can cause them at will.
const EACH: u32 = 10;

/// Takes events. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    sink: Box<dyn Fn(Event) + Send + Sync>,
    /// By message and level: what is not shown at its level is not counted at another.
    repeats: Mutex<Repeats<(&'static str, Level)>>,
}

impl Events {
    /// Events that are logged and then passed to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { sink: Box::new(sink), repeats: Mutex::new(Repeats::new(EACH)) }))
    }

    /// Logs an event and passes it on. Of the events that a peer can cause at will only the first ten of a kind are logged
    /// until the next [`Self::count_repeats`].
    pub fn emit(&self, event: impl Into<Event>) {
        let event = event.into();
        if !event.is_limited() || self.repeats(|repeats| repeats.note((event.message(), event.level()))) {
            write_to_log(&event);
        }
        (self.0.sink)(event);
    }

    /// Reports how many events of each kind were not logged one by one. The connection calls it once a minute and at its end.
    pub fn count_repeats(&self) {
        for ((what, level), count) in self.repeats(Repeats::next_period) {
            self.emit(Repeated { what, level, count });
        }
    }

    fn repeats<T>(&self, with: impl FnOnce(&mut Repeats<(&'static str, Level)>) -> T) -> T {
        with(&mut self.0.repeats.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn write_to_log(event: &Event) {
    let (target, level) = (event.target(), event.level());
    if log::log_enabled!(target: target, level) {
        let fields = event.fields();
        let mut record = Record::builder();
        record.target(target).level(level).key_values(&fields);
        log::logger().log(&record.args(format_args!("{}", event.message())).build());
    }
}
