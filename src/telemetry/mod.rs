//! Events, their log lines, and the snapshot that they change. `/status`, the metrics and the tests read the snapshot.

pub mod events;
pub(crate) mod field;
mod job_metrics;
mod line;
pub(crate) mod log;
pub(crate) mod problems;
pub(crate) mod prometheus;
pub(crate) mod repeats;
pub(crate) mod snapshot;
mod stderr;

pub use events::{Event, Events};
pub(crate) use field::Fields;
pub(crate) use snapshot::{BackendState, CoordinatorState, PauseState};
pub use snapshot::{Phase, Snapshot};
