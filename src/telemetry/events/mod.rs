//! The events of an agent. One struct an event gives the log line, its fields, and the change of the snapshot. The
//! coordinator's events are of the same kind: `src/coordinator/events`.
//!
//! An event never contains a prompt, a completion, a key or an enrollment code.

mod advice;
mod agent;
mod backends;
mod causes;
mod connection;
mod describe;
mod event;
mod event_log;
mod jobs;
mod ledger;
mod sink;

pub use agent::{
    AgentPaused, AgentUnpaused, ChildReplaced, DrainCutShort, DrainProgress, Draining, GivingUp, Stopped, WorkerLost,
};
pub use backends::{BackendDown, BackendUp, BreakerOpened, CloudModelsNotOffered, NothingOnOffer};
pub use causes::{Awaited, BackendDownCause, ConnectFailure, DisconnectCause, InternalEnd, NotStored, SkipCause};
pub use connection::{
    CapabilitiesSent, ConnectFailed, Connected, Dialling, Disconnected, FrameSkipped, HandoverBegun,
    ProviderIdNotStored, ProviderIdReplaced, Retrying, SessionResumed, StaleDropped, StillTrying,
};
pub(crate) use describe::{Describe, EventKind};
pub use event::Event;
pub(crate) use event_log::EventLog;
#[cfg(feature = "testkit")]
pub use event_log::Repeated;
pub use jobs::{JobAccepted, JobEnded, JobMoved, JobRefused, JobStarted};
pub use ledger::{LedgerFailed, LedgerRowsLost, LedgerWorks};
pub use sink::Events;
