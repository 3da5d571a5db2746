//! What each event provides.

use std::time::SystemTime;

use log::Level;

use crate::telemetry::Snapshot;
use crate::telemetry::field::Fields;

/// What an event provides.
pub(super) trait Describe {
    /// What a log filter selects it by.
    fn target(&self) -> &'static str;

    /// WARN: the agent recovers by itself. ERROR: a person is needed.
    fn level(&self) -> Level {
        Level::Info
    }

    /// The message of its log line, which is the same for all events of the type.
    fn message(&self) -> &'static str;

    /// The fields of its log line. `time`, `level`, `target` and `message` are the line's own.
    fn fields(&self) -> Fields;

    /// What it changes.
    fn apply(&self, _snapshot: &mut Snapshot, _at: SystemTime) {}
}
