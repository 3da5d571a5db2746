//! The log of events, which limits how many lines a peer can cause. Used by [`Events`](super::Events) and by the coordinator.

use std::sync::{Mutex, PoisonError};

use log::{Level, Record};

use super::describe::{Describe, EventKind};
use crate::telemetry::field::Fields;
use crate::telemetry::repeats::Repeats;

/// Writes the log lines of events. Of the events that a peer can cause at will, only the first ones of a kind are written
/// until the next [`Self::next_period`].
pub(crate) struct EventLog(Mutex<Repeats<EventKind>>);

impl EventLog {
    /// Writes `each` lines of a kind in a period, if a peer can cause them at will.
    pub(crate) fn new(each: u32) -> Self {
        Self(Mutex::new(Repeats::new(each)))
    }

    /// Writes the line of an event, or counts the event. Returns whether it was written.
    pub(crate) fn write<S>(&self, event: &dyn Describe<S>) -> bool {
        let kind = event.kind();
        let is_written = !kind.is_limited || self.repeats(|repeats| repeats.note(kind));
        if is_written {
            write_line(kind, event);
        }
        is_written
    }

    /// Begins the next period. Returns an event for each kind of which not all were written, for the caller to emit.
    pub(crate) fn next_period(&self) -> Vec<Repeated> {
        let counts = self.repeats(Repeats::next_period).into_iter();
        let repeated = |(kind, count)| {
            let EventKind { target, message, variant, level, .. } = kind;
            Repeated { target, what: message, variant, level, count }
        };
        counts.map(repeated).collect()
    }

    fn repeats<T>(&self, with: impl FnOnce(&mut Repeats<EventKind>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn write_line<S>(kind: EventKind, event: &dyn Describe<S>) {
    let EventKind { target, message, level, .. } = kind;
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
    /// The part of their cause by which they are counted apart.
    pub variant: Option<&'static str>,
    /// Their level.
    pub level: Level,
    /// How many were not logged.
    pub count: u64,
}

impl<S> Describe<S> for Repeated {
    fn kind(&self) -> EventKind {
        EventKind::new(self.level, self.target, "more events of one kind")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("event", self.what).text_if("cause", self.variant).number("count", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::snapshot::Snapshot;

    struct Refused(&'static str);

    impl Describe<Snapshot> for Refused {
        fn kind(&self) -> EventKind {
            EventKind::new(Level::Info, "test", "refused").limited().of_variant(self.0)
        }

        fn fields(&self) -> Fields {
            Fields::new()
        }
    }

    #[test]
    fn many_events_of_one_cause_hide_none_of_another() {
        let log = EventLog::new(2);
        let write = |cause| log.write(&Refused(cause));
        assert_eq!([write("full"), write("full"), write("full"), write("full")], [true, true, false, false]);
        assert!(write("stopping"));
        let repeated = log.next_period();
        let counts: Vec<_> = repeated.iter().map(|repeated| (repeated.variant, repeated.count)).collect();
        assert_eq!(counts, [(Some("full"), 2)]);
        assert!(log.write(&Refused("full")), "the next minute");
    }
}
