//! What the agent says of itself: events, the log lines they write, and the snapshot they fold into.
//!
//! One event, one log line, one change of the snapshot. `/status`, the metrics and the tests all read the snapshot.

pub mod event;
pub(crate) mod exposition;
pub mod log;
pub mod outside;
pub mod prometheus;
pub mod repeats;
pub mod snapshot;
mod stderr;
mod target;

pub use event::{Event, Events};
pub use outside::{Label, Outside, OutsideJson};
pub use snapshot::{Phase, Snapshot};
