//! The log of events, which limits how many lines a peer can cause. Used by [`Events`](super::Events) and by the coordinator.

use std::sync::{Mutex, PoisonError};

use log::{Level, Record};

use super::describe::Describe;
use crate::telemetry::field::Fields;
use crate::telemetry::repeats::Repeats;

/// Writes the log lines of events. Of the events that a peer can cause at will, only the first ones of a kind are written
/// until the next [`Self::next_period`].
pub(crate) struct EventLog(Mutex<Repeats<Kind>>);

/// The events that are counted together. Their log filter is that of the line that reports their number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    target: &'static str,
    message: &'static str,
    level: Level,
}

impl EventLog {
    /// Writes `each` lines of a kind in a period, if a peer can cause them at will.
    pub(crate) fn new(each: u32) -> Self {
        Self(Mutex::new(Repeats::new(each)))
    }

    /// Writes the line of an event, or counts the event. Returns whether it was written.
    pub(crate) fn write<S>(&self, event: &dyn Describe<S>) -> bool {
        let kind = Kind { target: event.target(), message: event.message(), level: event.level() };
        let is_written = !event.is_limited() || self.repeats(|repeats| repeats.note(kind));
        if is_written {
            write_line(kind, event);
        }
        is_written
    }

    /// Begins the next period. Returns an event for each kind of which not all were written, for the caller to emit.
    pub(crate) fn next_period(&self) -> Vec<Repeated> {
        let counts = self.repeats(Repeats::next_period).into_iter();
        let repeated = |(Kind { target, message, level }, count)| Repeated { target, what: message, level, count };
        counts.map(repeated).collect()
    }

    fn repeats<T>(&self, with: impl FnOnce(&mut Repeats<Kind>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn write_line<S>(kind: Kind, event: &dyn Describe<S>) {
    let Kind { target, message, level } = kind;
    if log::log_enabled!(target: target, level) {
        let fields = event.fields();
        let mut record = Record::builder();
        record.target(target).level(level).key_values(&fields);
        log::logger().log(&record.args(format_args!("{message}")).build());
    }
}

/// More events of one kind happened in the last minute than were logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Their target.
    pub target: &'static str,
    /// The message of their log line.
    pub what: &'static str,
    /// Their level.
    pub level: Level,
    /// How many were not logged.
    pub count: u64,
}

impl<S> Describe<S> for Repeated {
    fn target(&self) -> &'static str {
        self.target
    }

    fn level(&self) -> Level {
        self.level
    }

    fn message(&self) -> &'static str {
        "more events of one kind"
    }

    fn fields(&self) -> Fields {
        Fields::new().text("event", self.what).number("count", self.count)
    }
}
