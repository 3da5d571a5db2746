//! What each event provides, of an agent and of the coordinator.

use std::time::SystemTime;

use log::Level;

use crate::telemetry::Snapshot;
use crate::telemetry::field::Fields;

/// What an event provides. `S` is the state that events change: the snapshot of an agent, or the metrics of a coordinator.
pub(crate) trait Describe<S = Snapshot> {
    /// What a log filter selects it by.
    fn target(&self) -> &'static str;

    /// WARN: the process recovers by itself. ERROR: a person is needed.
    fn level(&self) -> Level {
        Level::Info
    }

    /// The message of its log line, which is the same for all events of the type.
    fn message(&self) -> &'static str;

    /// Whether a peer or a client can cause such events at will, as many as it likes. Then only some of them are logged, and
    /// the others are counted. The end of a job always has its line.
    fn is_limited(&self) -> bool {
        false
    }

    /// A part of its cause, from a closed set, if limited events of different causes are counted apart: many of one cause hide
    /// none of another.
    fn variant(&self) -> &'static str {
        ""
    }

    /// The fields of its log line. `time`, `level`, `target` and `message` are the line's own.
    fn fields(&self) -> Fields;

    /// What it changes.
    fn apply(&self, _state: &mut S, _at: SystemTime) {}
}
