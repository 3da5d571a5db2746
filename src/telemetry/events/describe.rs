//! What each event provides, of an agent and of the coordinator.

use std::time::SystemTime;

use log::Level;

use crate::telemetry::Snapshot;
use crate::telemetry::field::Fields;
use crate::telemetry::problems::Occurrence;

/// What an event provides. `S` is the state that events change: the snapshot of an agent, or the metrics of a coordinator.
pub(crate) trait Describe<S = Snapshot> {
    /// What is the same in the log lines of such events.
    fn kind(&self) -> EventKind;

    /// The fields of its log line. `time`, `level`, `target` and `message` are the line's own.
    fn fields(&self) -> Fields;

    /// The problem of the agent's operator that it shows, if it shows one.
    fn problem(&self) -> Option<Occurrence> {
        None
    }

    /// What it changes.
    fn apply(&self, _state: &mut S, _at: SystemTime) {}
}

/// What the log lines of some events have in common. Limited events of one kind are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventKind {
    /// What a log filter selects it by.
    pub(crate) target: &'static str,
    /// The same for all events of a type.
    pub(crate) message: &'static str,
    /// A part of the cause, from a closed set, if limited events of different causes are counted apart: many of one cause hide
    /// none of another.
    pub(crate) variant: Option<&'static str>,
    /// WARN: the process recovers by itself. ERROR: a person is needed.
    pub(crate) level: Level,
    /// Whether a peer or a client can cause such events at will, as many as it likes. Then only some of them are logged, and
    /// the others are counted. The end of a job always has its line.
    pub(crate) is_limited: bool,
}

impl EventKind {
    /// A kind whose events are all logged.
    pub(crate) fn new(level: Level, target: &'static str, message: &'static str) -> Self {
        Self { level, target, message, variant: None, is_limited: false }
    }

    /// The same, of events that a peer or a client can cause at will.
    pub(crate) fn limited(self) -> Self {
        Self { is_limited: true, ..self }
    }

    /// The same, for events of this cause.
    pub(crate) fn of_variant(self, variant: &'static str) -> Self {
        Self { variant: Some(variant), ..self }
    }
}
