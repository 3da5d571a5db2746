//! The one place that wires everything: from a configuration to running actors, and from signals to an exit code.

mod agent;
mod conformance;
mod coordinator;
mod dumps;
mod exit;
mod limits;
mod pause;
mod signals;
mod wiring;

pub(crate) use agent::{Agent, StartError, doorway_path, run, token_path};
pub(crate) use conformance::check_conformance;
pub(crate) use coordinator::serve;
pub(crate) use dumps::allow_dumps;
pub(crate) use exit::ExitStatus;
pub(crate) use limits::open_connections;
pub(crate) use signals::Signals;
pub(crate) use wiring::sources;
