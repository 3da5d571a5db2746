//! The events of a coordinator. One struct an event gives the log line, its fields, and the change of the metrics, as in
//! `src/telemetry/events` for an agent.
//!
//! An event never contains a prompt, a completion, a key or an enrollment code. Agents and clients can cause most of them at
//! will, so only some of these are logged, and the others are counted.

mod agents;
mod jobs;
mod server;
mod sessions;
mod sink;

pub(crate) use agents::{
    AgentConnected, AgentDisconnected, AgentDraining, AgentEnrolled, AgentFrameIgnored, AgentFrameSkipped,
    AgentRefused, AgentRefusedCause, AgentReplaced, AgentSilent, OfferReceived, ProtocolViolated, SessionEnd,
};
pub(crate) use jobs::{JobAttemptEnded, RequestRefused, RequestRetried, WaitEnded};
pub(crate) use server::{
    ApiWithoutKey, CoordinatorListening, CoordinatorStopped, CoordinatorStopping, JobsCutShort, PeerTakesNothing,
    SocketOptionRefused,
};
pub(crate) use sessions::{SessionEndedWaiting, SessionResumed, SessionWaits};
pub(crate) use sink::{CoordinatorEvents, count_repeats_each_minute};

/// What a log filter selects the events of a coordinator by.
const TARGET: &str = "outpost::coordinator";
