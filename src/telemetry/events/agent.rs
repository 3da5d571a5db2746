//! Events of the agent's actors and of its shutdown.

use std::time::{Duration, SystemTime};

use log::Level;

use super::describe::{Describe, EventKind};
use crate::messages::ids::BackendId;
use crate::messages::lifecycle::Child;
use crate::telemetry::field::Fields;
use crate::telemetry::snapshot::PauseState;
use crate::telemetry::{Phase, Snapshot};

const TARGET: &str = "outpost::agent";

/// The operator has paused the agent: it offers nothing, and running jobs go on.
#[derive(Clone, Debug)]
pub struct AgentPaused {
    /// When the pause ends by itself; `None`: when the operator ends it.
    pub until: Option<SystemTime>,
}

impl Describe for AgentPaused {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "paused by the operator")
    }

    fn fields(&self) -> Fields {
        Fields::new().text_if("until", self.until.map(humantime::format_rfc3339_seconds))
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        let until = self.until.map(|until| humantime::format_rfc3339_seconds(until).to_string());
        snapshot.paused = Some(PauseState { until });
    }
}

/// The operator's pause has ended.
#[derive(Clone, Debug)]
pub struct AgentUnpaused;

impl Describe for AgentUnpaused {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "the pause is over")
    }

    fn fields(&self) -> Fields {
        Fields::new()
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.paused = None;
    }
}

/// A child actor ended and is replaced.
#[derive(Clone, Debug)]
pub struct ChildReplaced {
    /// Which.
    pub child: Child,
}

impl Describe for ChildReplaced {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "actor replaced")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("child", format_args!("{:?}", self.child))
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.actors_replaced += 1;
        if self.child == Child::Router {
            // The jobs in its ledger were cancelled with it.
            snapshot.jobs.cancelled += snapshot.in_flight;
        }
    }
}

/// A worker panicked. Its job was ended with an error.
#[derive(Clone, Debug)]
pub struct WorkerLost {
    /// The worker's backend.
    pub backend: BackendId,
}

impl Describe for WorkerLost {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "worker lost")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("backend", &self.backend)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.actors_replaced += 1;
    }
}

/// The restart budget is spent.
#[derive(Clone, Debug)]
pub struct GivingUp;

impl Describe for GivingUp {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Error, TARGET, "too many actors ended in a short time, giving up")
    }

    fn fields(&self) -> Fields {
        Fields::new()
    }
}

/// The agent was ordered to stop.
#[derive(Clone, Debug)]
pub struct Draining {
    /// Jobs that still run.
    pub in_flight: usize,
    /// How long they may run.
    pub grace: Duration,
}

impl Describe for Draining {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "stopping, no new jobs")
    }

    fn fields(&self) -> Fields {
        Fields::new().number("in_flight", self.in_flight).number("grace_s", self.grace.as_secs())
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.phase = Phase::Draining;
    }
}

/// The agent waits for running jobs.
#[derive(Clone, Debug)]
pub struct DrainProgress {
    /// Jobs that still run.
    pub in_flight: usize,
    /// The rest of the grace.
    pub left: Duration,
}

impl Describe for DrainProgress {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "waiting for running jobs")
    }

    fn fields(&self) -> Fields {
        Fields::new().number("in_flight", self.in_flight).number("left_s", self.left.as_secs())
    }
}

/// Jobs that did not finish in time are ended.
#[derive(Clone, Debug)]
pub struct DrainCutShort {
    /// How many.
    pub in_flight: usize,
}

impl Describe for DrainCutShort {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "running jobs ended early")
    }

    fn fields(&self) -> Fields {
        Fields::new().number("in_flight", self.in_flight)
    }
}

/// The shutdown is complete.
#[derive(Clone, Debug)]
pub struct Stopped;

impl Describe for Stopped {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "stopped")
    }

    fn fields(&self) -> Fields {
        Fields::new()
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.phase = Phase::Stopped;
    }
}
