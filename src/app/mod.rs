//! The one place that wires everything: from a configuration to running actors, and from signals to an exit code.

mod agent;
mod conformance;
mod coordinator;
mod dumps;
mod exit;
mod limits;
mod signals;
mod wiring;

pub use agent::{Agent, StartError, run};
pub use conformance::check_conformance;
pub use coordinator::serve;
pub use dumps::allow_dumps;
pub use exit::ExitStatus;
pub use limits::{TooFewFiles, open_connections};
pub use signals::{Interrupt, Signals};
pub use wiring::sources;
