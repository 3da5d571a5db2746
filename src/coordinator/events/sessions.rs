//! Events of sessions that outlive a connection. An agent can cause them at will, so each kind is limited.

use std::time::{Duration, SystemTime};

use log::Level;

use super::TARGET;
use crate::coordinator::fleet::session_change::{SessionChange, SessionLoss};
use crate::coordinator::metrics::Metrics;
use crate::messages::ids::ProviderId;
use crate::telemetry::Fields;
use crate::telemetry::events::{Describe, EventKind};

/// The connection of an agent ended, and its jobs wait for its return.
#[derive(Clone, Debug)]
pub(crate) struct SessionWaits {
    /// The agent's name.
    pub(crate) provider: ProviderId,
    /// How many jobs.
    pub(crate) jobs: usize,
    /// For how long.
    pub(crate) window: Duration,
}

impl Describe<Metrics> for SessionWaits {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "jobs wait for their agent").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new()
            .text("provider_id", &self.provider)
            .number("jobs", self.jobs)
            .number("window_s", self.window.as_secs())
    }

    fn apply(&self, metrics: &mut Metrics, _: SystemTime) {
        metrics.count_session(SessionChange::Waits);
    }
}

/// The session of an agent goes on over another connection.
#[derive(Clone, Debug)]
pub(crate) struct SessionResumed {
    /// The agent's name.
    pub(crate) provider: ProviderId,
    /// Jobs that go on.
    pub(crate) jobs: usize,
    /// Jobs that the agent does not have. They are sent again, or have failed.
    pub(crate) jobs_missing: usize,
    /// Whether its old connection still seemed to exist.
    pub(crate) was_connected: bool,
}

impl Describe<Metrics> for SessionResumed {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "session resumed").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new()
            .text("provider_id", &self.provider)
            .number("jobs", self.jobs)
            .number("jobs_missing", self.jobs_missing)
            .text("was_connected", self.was_connected)
    }

    fn apply(&self, metrics: &mut Metrics, _: SystemTime) {
        metrics.count_session(SessionChange::Resumed);
    }
}

/// A session ended while it waited for its agent. Its jobs are lost: they fail, or are sent to another agent.
#[derive(Clone, Debug)]
pub(crate) struct SessionEndedWaiting {
    /// The agent's name.
    pub(crate) provider: ProviderId,
    /// How many jobs.
    pub(crate) jobs_lost: usize,
    /// Why.
    pub(crate) cause: SessionLoss,
}

impl Describe<Metrics> for SessionEndedWaiting {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "session ended without its agent").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new()
            .text("provider_id", &self.provider)
            .number("jobs_lost", self.jobs_lost)
            .text("cause", self.cause.as_str())
    }

    fn apply(&self, metrics: &mut Metrics, _: SystemTime) {
        metrics.count_session(SessionChange::Lost(self.cause));
    }
}
