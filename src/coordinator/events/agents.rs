//! Events of the agents' connections. Agents can cause all of them at will, so each kind is limited.

use std::fmt;
use std::time::Duration;

use log::Level;

use super::TARGET;
use crate::coordinator::agents::frames::FrameError;
use crate::coordinator::agents::handshake::{AdmissionError, AdmissionReason, AgentKey};
use crate::coordinator::agents::peer::Peer;
use crate::coordinator::metrics::Metrics;
use crate::messages::ids::{ModelId, ProviderId};
use crate::messages::wire::Extensions;
use crate::telemetry::Fields;
use crate::telemetry::events::{Describe, EventKind};

/// An agent was not admitted.
#[derive(Clone, Debug)]
pub(crate) struct AgentRefused {
    /// Its address.
    pub(crate) peer: Peer,
    /// The version that it reported, if it did.
    pub(crate) version: Option<String>,
    /// Why.
    pub(crate) cause: AgentRefusedCause,
}

/// Why an agent was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AgentRefusedCause {
    /// It sent no `auth_response` in time.
    #[error("no auth_response in time")]
    HandshakeTimeout,
    /// The rules do not admit it.
    #[error(transparent)]
    NotAdmitted(#[from] AdmissionError),
}

impl Describe<Metrics> for AgentRefused {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "agent refused").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("peer", self.peer).text_if("version", self.version.as_ref()).text("cause", self.cause)
    }
}

/// An agent was admitted.
#[derive(Clone, Debug)]
pub(crate) struct AgentConnected {
    /// Its name.
    pub(crate) provider: ProviderId,
    /// Its address.
    pub(crate) peer: Peer,
    /// The version that it reported.
    pub(crate) version: String,
    /// Why it was admitted.
    pub(crate) reason: AdmissionReason,
    /// The extensions that were agreed on.
    pub(crate) extensions: Extensions,
}

impl Describe<Metrics> for AgentConnected {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "agent connected").limited()
    }

    fn fields(&self) -> Fields {
        let extensions = Some(self.extensions).filter(|extensions| !extensions.is_empty());
        Fields::new()
            .text("provider_id", &self.provider)
            .text("peer", self.peer)
            .text("version", &self.version)
            .text("reason", self.reason.as_str())
            .text_if("extensions", extensions)
    }
}

/// An agent was admitted by its enrollment code. The coordinator knows its key until its next restart. Always logged: no other
/// line names the key.
#[derive(Clone, Debug)]
pub(crate) struct AgentEnrolled {
    /// Its name.
    pub(crate) provider: ProviderId,
    /// Its public key.
    pub(crate) key: AgentKey,
}

impl Describe<Metrics> for AgentEnrolled {
    fn kind(&self) -> EventKind {
        EventKind::new(
            Level::Info,
            TARGET,
            "agent enrolled: add its public key to OUTPOST_COORDINATOR_AGENT_KEYS to know it after a restart",
        )
    }

    fn fields(&self) -> Fields {
        Fields::new().text("provider_id", &self.provider).text("pubkey", self.key.to_base64())
    }
}

/// A newer connection with the same key replaced a connection.
#[derive(Clone, Debug)]
pub(crate) struct AgentReplaced {
    /// The agent's name.
    pub(crate) provider: ProviderId,
    /// Jobs that were lost with the earlier connection.
    pub(crate) jobs_lost: usize,
}

impl Describe<Metrics> for AgentReplaced {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "agent replaced by a newer connection with the same key").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("provider_id", &self.provider).number("jobs_lost", self.jobs_lost)
    }
}

/// An agent announced that it will stop. It gets no new job.
#[derive(Clone, Debug)]
pub(crate) struct AgentDraining {
    /// Its name.
    pub(crate) provider: ProviderId,
    /// Jobs that it has, as it reported.
    pub(crate) in_flight: u64,
}

impl Describe<Metrics> for AgentDraining {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "agent draining").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("provider_id", &self.provider).number("in_flight", self.in_flight)
    }
}

/// The connection of an admitted agent ended.
#[derive(Clone, Debug)]
pub(crate) struct AgentDisconnected {
    /// Its name.
    pub(crate) provider: ProviderId,
    /// Jobs that were lost with the connection: none if its session waits for the agent.
    pub(crate) jobs_lost: usize,
    /// Why.
    pub(crate) cause: SessionEnd,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The agent sent a close frame.
    ClosedByAgent,
    /// The coordinator sent a close frame with this reason.
    Closed(&'static str),
    /// The agent sent no byte for too long.
    Silence,
    /// The socket was closed or failed.
    ConnectionEnded,
    /// The session panicked.
    SessionFailed,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClosedByAgent => "closed by the agent",
            Self::Closed(reason) => reason,
            Self::Silence => "silence",
            Self::ConnectionEnded => "connection ended",
            Self::SessionFailed => "session failed",
        })
    }
}

impl Describe<Metrics> for AgentDisconnected {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "agent disconnected").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("provider_id", &self.provider).number("jobs_lost", self.jobs_lost).text("cause", self.cause)
    }
}

/// No byte of an agent arrived for too long.
#[derive(Clone, Debug)]
pub(crate) struct AgentSilent {
    /// Its address.
    pub(crate) peer: Peer,
    /// For how long.
    pub(crate) limit: Duration,
}

impl Describe<Metrics> for AgentSilent {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "agent silent").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("peer", self.peer).number("silent_s", self.limit.as_secs())
    }
}

/// An agent violated the protocol, and its connection is closed.
#[derive(Clone, Debug)]
pub(crate) struct ProtocolViolated {
    /// Its address.
    pub(crate) peer: Peer,
    /// What it did: the reason in the close frame.
    pub(crate) violation: &'static str,
}

impl Describe<Metrics> for ProtocolViolated {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "agent violated the protocol").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("peer", self.peer).text("violation", self.violation)
    }
}

/// An agent sent what it offers.
#[derive(Clone, Debug)]
pub(crate) struct OfferReceived {
    /// Its name.
    pub(crate) provider: ProviderId,
    /// Concurrent jobs over all models.
    pub(crate) slots: u32,
    /// How many models it offers.
    pub(crate) models: usize,
    /// Some of them.
    pub(crate) names: Vec<ModelId>,
}

impl Describe<Metrics> for OfferReceived {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "offer received").limited()
    }

    fn fields(&self) -> Fields {
        let names: Vec<&str> = self.names.iter().map(ModelId::as_str).collect();
        Fields::new()
            .text("provider_id", &self.provider)
            .number("slots", self.slots)
            .number("models", self.models)
            .text("names", names.join(", "))
    }
}

/// A frame of an agent can't be read and was skipped.
#[derive(Clone, Debug)]
pub(crate) struct AgentFrameSkipped {
    /// The agent's name.
    pub(crate) provider: ProviderId,
    /// Its length in bytes.
    pub(crate) bytes: usize,
    /// Why.
    pub(crate) cause: FrameError,
}

impl Describe<Metrics> for AgentFrameSkipped {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "frame skipped").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("provider_id", &self.provider).number("bytes", self.bytes).text("cause", self.cause)
    }
}

/// A frame of an agent is of a type that is unknown or was not agreed on, or comes too late, and was ignored.
#[derive(Clone, Debug)]
pub(crate) struct AgentFrameIgnored {
    /// The agent's name.
    pub(crate) provider: ProviderId,
}

impl Describe<Metrics> for AgentFrameIgnored {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Debug, TARGET, "frame ignored").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("provider_id", &self.provider)
    }
}
