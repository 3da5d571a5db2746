//! Events of the connection to the coordinator.

use std::time::{Duration, SystemTime};

use log::Level;

use super::causes::{ConnectFailure, DisconnectCause, NotStored, SkipCause};
use super::describe::{Describe, EventKind};
use crate::core::session::close::is_expected;
use crate::messages::ids::{Generation, ProviderId};
use crate::messages::wire::Extensions;
use crate::telemetry::field::Fields;
use crate::telemetry::problems::Occurrence;
use crate::telemetry::{Phase, Snapshot};

const TARGET: &str = "outpost::connection";
/// Who is to blame for a connection that ends: the coordinator, or the network to it.
const COORDINATOR: &str = "coordinator";

/// A connection is being dialled.
#[derive(Clone, Debug)]
pub struct Dialling {
    /// Its number.
    pub generation: Generation,
    /// Host and port of the coordinator.
    pub addr: String,
}

impl Describe for Dialling {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "dialling")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("addr", &self.addr).connection(self.generation)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        // During a handover the earlier connection serves until the new one does.
        if !snapshot.is_connected() {
            snapshot.enter(Phase::Connecting);
        }
        snapshot.update_coordinator(self.generation.coordinator, |coordinator| coordinator.addr.clone_from(&self.addr));
    }
}

/// The coordinator sent `auth_ok`.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The connection's number.
    pub generation: Generation,
    /// The agent's name, if it has one.
    pub provider_id: Option<ProviderId>,
    /// The extensions of the base protocol that both sides support.
    pub extensions: Extensions,
}

impl Describe for Connected {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "connected")
    }

    fn fields(&self) -> Fields {
        let extensions = Some(self.extensions).filter(|extensions| !extensions.is_empty());
        Fields::new()
            .connection(self.generation)
            .text_if("provider_id", self.provider_id.as_ref())
            .text_if("extensions", extensions)
    }

    fn apply(&self, snapshot: &mut Snapshot, at: SystemTime) {
        snapshot.enter(Phase::Connected);
        snapshot.connections += 1;
        snapshot.update_coordinator(self.generation.coordinator, |coordinator| {
            coordinator.generation = self.generation.number;
            coordinator.failures = 0;
            (coordinator.disconnected_since, coordinator.advice) = (None, None);
            coordinator.connected_since = Some(humantime::format_rfc3339_seconds(at).to_string());
            coordinator.provider_id = self.provider_id.as_ref().map(ToString::to_string);
        });
    }
}

/// The coordinator sent another provider id than the one stored.
#[derive(Clone, Debug)]
pub struct ProviderIdReplaced {
    /// The old one.
    pub old: ProviderId,
    /// The new one.
    pub new: ProviderId,
}

impl Describe for ProviderIdReplaced {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "provider id replaced")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("old", &self.old).text("new", &self.new)
    }
}

/// The provider id can't be written to the disk: it is valid for this process only.
#[derive(Clone, Debug)]
pub struct ProviderIdNotStored {
    /// Why.
    pub cause: NotStored,
}

impl Describe for ProviderIdNotStored {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Error, TARGET, "provider id not stored")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("cause", &self.cause)
    }
}

/// An established connection ended.
#[derive(Clone, Debug)]
pub struct Disconnected {
    /// Its number.
    pub generation: Generation,
    /// Why.
    pub cause: DisconnectCause,
}

impl Describe for Disconnected {
    fn kind(&self) -> EventKind {
        let level = if is_expected(self.cause.kind()) { Level::Info } else { Level::Warn };
        EventKind::new(level, TARGET, "disconnected")
    }

    fn fields(&self) -> Fields {
        Fields::new()
            .connection(self.generation)
            .text("kind", format_args!("{:?}", self.cause.kind()))
            .text("cause", &self.cause)
    }

    fn problem(&self) -> Option<Occurrence> {
        (!is_expected(self.cause.kind())).then(|| Occurrence {
            kind: "connection to the coordinator lost".to_owned(),
            blame: COORDINATOR,
            details: Some(self.cause.to_string()),
            advice: "The agent connects again by itself. If it happens often, look at the network, and at proxies and NAT on the way.",
        })
    }

    fn apply(&self, snapshot: &mut Snapshot, at: SystemTime) {
        snapshot.update_coordinator(self.generation.coordinator, |coordinator| {
            if coordinator.generation == self.generation.number {
                coordinator.disconnected(self.cause.to_string(), at);
            }
        });
    }
}

/// A connection attempt failed.
#[derive(Clone, Debug)]
pub struct ConnectFailed {
    /// The connection's number.
    pub generation: Generation,
    /// Why.
    pub cause: ConnectFailure,
    /// Failures in a row.
    pub failures: u32,
}

impl Describe for ConnectFailed {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Error, TARGET, "connection failed")
    }

    fn fields(&self) -> Fields {
        Fields::new().connection(self.generation).number("failures", self.failures).text("cause", &self.cause)
    }

    fn problem(&self) -> Option<Occurrence> {
        Some(Occurrence {
            kind: "no connection to the coordinator".to_owned(),
            blame: COORDINATOR,
            details: Some(self.cause.to_string()),
            advice: self.cause.advice(),
        })
    }

    fn apply(&self, snapshot: &mut Snapshot, at: SystemTime) {
        snapshot.update_coordinator(self.generation.coordinator, |coordinator| {
            if coordinator.connected_since.is_none() {
                coordinator.disconnected(self.cause.to_string(), at);
                coordinator.advice = Some(self.cause.advice().to_owned());
            }
            coordinator.failures = self.failures;
        });
    }
}

/// The tenth connection attempt in a row failed. It is reported once.
#[derive(Clone, Debug)]
pub struct StillTrying {
    /// The last connection.
    pub generation: Generation,
    /// Failures in a row.
    pub failures: u32,
}

impl Describe for StillTrying {
    fn kind(&self) -> EventKind {
        EventKind::new(
            Level::Error,
            TARGET,
            "no connection yet, still trying: check the coordinator's URL and the network",
        )
    }

    fn fields(&self) -> Fields {
        Fields::new().coordinator(self.generation).number("failures", self.failures)
    }
}

/// The next connection attempt is scheduled.
#[derive(Clone, Debug)]
pub struct Retrying {
    /// The last connection.
    pub generation: Generation,
    /// From now.
    pub wait: Duration,
}

impl Describe for Retrying {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "next try")
    }

    fn fields(&self) -> Fields {
        Fields::new().coordinator(self.generation).number("wait_ms", self.wait.as_millis())
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        if !snapshot.is_connected() {
            snapshot.enter(Phase::Waiting);
        }
    }
}

/// The coordinator was sent what is on offer.
#[derive(Clone, Debug)]
pub struct CapabilitiesSent {
    /// The connection's number.
    pub generation: Generation,
    /// Models on offer.
    pub models: usize,
}

impl Describe for CapabilitiesSent {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "capabilities sent")
    }

    fn fields(&self) -> Fields {
        Fields::new().connection(self.generation).number("models", self.models)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot
            .update_coordinator(self.generation.coordinator, |coordinator| coordinator.models_offered = self.models);
    }
}

/// The coordinator announced that it will close a connection: another one is made before.
#[derive(Clone, Debug)]
pub struct HandoverBegun {
    /// The connection that will be closed.
    pub generation: Generation,
    /// How long it may last.
    pub deadline: Duration,
}

impl Describe for HandoverBegun {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "handover begun")
    }

    fn fields(&self) -> Fields {
        Fields::new().connection(self.generation).number("deadline_ms", self.deadline.as_millis())
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.handovers += 1;
    }
}

/// A connection goes on with the jobs of an earlier one.
#[derive(Clone, Debug)]
pub struct SessionResumed {
    /// The connection's number.
    pub generation: Generation,
    /// Jobs that the coordinator still wants.
    pub jobs: usize,
}

impl Describe for SessionResumed {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "session resumed")
    }

    fn fields(&self) -> Fields {
        Fields::new().connection(self.generation).number("jobs", self.jobs)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.resumptions += 1;
    }
}

/// A frame that can't be used was skipped.
#[derive(Clone, Debug)]
pub struct FrameSkipped {
    /// Why.
    pub cause: SkipCause,
}

impl Describe for FrameSkipped {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "frame skipped").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("cause", self.cause)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.frames_skipped += 1;
    }
}

/// A message of an earlier connection, or of a job that has ended, was dropped.
#[derive(Clone, Debug)]
pub struct StaleDropped {
    /// The kind of message.
    pub what: &'static str,
}

impl Describe for StaleDropped {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Debug, TARGET, "stale message dropped").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("what", self.what)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.stale_dropped += 1;
    }
}
