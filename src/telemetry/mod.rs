//! Events, their log lines, and the snapshot that they change. `/status`, the metrics and the tests read the snapshot.

pub mod events;
mod field;
mod job_metrics;
mod line;
pub mod log;
pub mod prometheus;
pub mod repeats;
pub mod snapshot;
mod stderr;

pub use events::{Event, Events};
pub use field::{Field, Fields};
pub use snapshot::{Phase, Snapshot};
