//! The state of an agent as one value, made from its events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::job_metrics::JobMetrics;
use super::problems::Problems;
use crate::messages::ids::{CoordinatorId, ModelId};

/// The state of the agent's connection to its coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the first connection attempt.
    #[default]
    Starting,
    /// A connection is being made.
    Connecting,
    /// The connection is established.
    Connected,
    /// The next connection attempt is scheduled.
    Waiting,
    /// It was ordered to stop.
    Draining,
    /// The shutdown is complete.
    Stopped,
}

/// Everything `/status` prints, and what tests assert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The agent's version.
    pub version: String,
    /// Base64 of its public key.
    pub pubkey: String,
    /// Its provider id at the first coordinator.
    pub provider_id: Option<String>,
    /// Its state: connected where one coordinator is.
    pub phase: Phase,
    /// Host and port of the first coordinator.
    pub coordinator: String,
    /// The coordinators, in the configured order.
    #[serde(default)]
    pub coordinators: Vec<CoordinatorState>,
    /// The number of the newest established connection.
    pub generation: u64,
    /// When the connection was established that has lasted longest, RFC 3339.
    pub connected_since: Option<String>,
    /// Connections established so far.
    pub connections: u64,
    /// Announcements of the coordinator that it will close a connection.
    #[serde(default)]
    pub handovers: u64,
    /// Connections that went on with the jobs of an earlier one.
    #[serde(default)]
    pub resumptions: u64,
    /// Failed connection attempts in a row, of the coordinator with the most.
    pub failures: u32,
    /// Why there is no connection, or why the last one ended.
    pub last_disconnect: Option<String>,
    /// The backends that were probed.
    pub backends: BTreeMap<String, BackendState>,
    /// Models in the last capabilities sent, to the coordinator with the most.
    pub models_offered: usize,
    /// Jobs accepted and not ended.
    pub in_flight: u64,
    /// Counts of jobs.
    pub jobs: JobCounts,
    /// Tokens of jobs done, as reported.
    pub tokens: TokenCounts,
    /// Frames skipped.
    pub frames_skipped: u64,
    /// Messages of earlier connections dropped.
    pub stale_dropped: u64,
    /// Actors replaced, workers included.
    pub actors_replaced: u64,
    /// The operator's pause, while there is one.
    #[serde(default)]
    pub paused: Option<PauseState>,
    /// The ledger of ended jobs.
    #[serde(default)]
    pub ledger: LedgerState,
    /// What went wrong lately.
    #[serde(default)]
    pub problems: Problems,
    /// Histograms of ended jobs. Only `/metrics` shows them. Shared, so that a copy of the snapshot is cheap.
    #[serde(skip)]
    pub job_metrics: Arc<JobMetrics>,
}

/// A pause of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseState {
    /// When it ends by itself, RFC 3339.
    pub until: Option<String>,
}

/// The ledger of ended jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerState {
    /// Why it can't be written.
    pub fault: Option<String>,
    /// Jobs that are not in it, because there was no room for their rows.
    pub rows_lost: u64,
}

/// A coordinator, and the connection to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorState {
    /// Host and port.
    pub addr: String,
    /// The agent's id there.
    pub provider_id: Option<String>,
    /// The number of the current or last established connection.
    pub generation: u64,
    /// When the current connection was established, RFC 3339.
    pub connected_since: Option<String>,
    /// Failed connection attempts in a row.
    pub failures: u32,
    /// Why there is no connection, or why the last one ended.
    pub last_disconnect: Option<String>,
    /// When the last connection ended, or could first not be made, RFC 3339. None while there is one.
    #[serde(default)]
    pub disconnected_since: Option<String>,
    /// What the operator can do about a connection that can't be made.
    #[serde(default)]
    pub advice: Option<String>,
    /// Models in the last capabilities sent.
    pub models_offered: usize,
}

impl BackendState {
    /// A probe has shown whether it is healthy.
    pub(super) fn probed(&mut self, up: bool, at: SystemTime) {
        if self.since.is_none() || self.up != up {
            self.since = Some(humantime::format_rfc3339_seconds(at).to_string());
        }
        self.up = up;
    }
}

impl CoordinatorState {
    pub(super) fn disconnected(&mut self, cause: String, at: SystemTime) {
        if self.connected_since.take().is_some() || self.disconnected_since.is_none() {
            self.disconnected_since = Some(humantime::format_rfc3339_seconds(at).to_string());
        }
        self.models_offered = 0;
        self.last_disconnect = Some(cause);
    }
}

/// A backend at its last probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendState {
    /// Whether it was healthy.
    pub up: bool,
    /// Since when that is so, RFC 3339.
    #[serde(default)]
    pub since: Option<String>,
    /// Its kind, after the first successful probe.
    pub kind: Option<String>,
    /// Its models.
    pub models: Vec<ModelId>,
    /// Why it is down.
    pub cause: Option<String>,
    /// How often its circuit breaker opened.
    pub breaker_opened: u64,
}

/// Counts of jobs since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Accepted.
    pub admitted: u64,
    /// Ended with `job_done`.
    pub done: u64,
    /// Retries on another backend, after one failed a job before the first response byte.
    pub moved: u64,
    /// Cancelled, or lost with their connection.
    pub cancelled: u64,
    /// Ended with `job_error` after they were accepted, by code.
    pub failed: BTreeMap<String, u64>,
    /// Answered with `job_error` instead of being accepted, by code.
    pub refused: BTreeMap<String, u64>,
}

impl JobCounts {
    /// Accepted and not ended.
    pub(super) fn running(&self) -> u64 {
        let ended = self.done + self.cancelled + self.failed.values().sum::<u64>();
        self.admitted.saturating_sub(ended)
    }
}

/// Sums of tokens since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
}

impl Snapshot {
    /// A phase of the connection does not end a drain.
    pub(super) fn enter(&mut self, phase: Phase) {
        if !matches!(self.phase, Phase::Draining | Phase::Stopped) {
            self.phase = phase;
        }
    }

    /// Whether a connection is established.
    pub(super) fn is_connected(&self) -> bool {
        self.connected_since.is_some()
    }

    /// Changes what is known of a coordinator, and with it the figures of all coordinators together.
    pub(super) fn update_coordinator(&mut self, id: CoordinatorId, change: impl FnOnce(&mut CoordinatorState)) {
        let at = usize::from(id.0);
        if self.coordinators.len() <= at {
            self.coordinators.resize_with(at + 1, CoordinatorState::default);
        }
        change(&mut self.coordinators[at]);
        let all = &self.coordinators;
        let first = all.first();
        self.coordinator = first.map(|first| first.addr.clone()).unwrap_or_default();
        self.provider_id = first.and_then(|first| first.provider_id.clone()).or_else(|| self.provider_id.take());
        self.generation = all.iter().map(|one| one.generation).max().unwrap_or_default();
        self.connected_since = all.iter().filter_map(|one| one.connected_since.clone()).min();
        self.failures = all.iter().map(|one| one.failures).max().unwrap_or_default();
        self.last_disconnect = all.iter().find_map(|one| one.last_disconnect.clone());
        self.models_offered = all.iter().map(|one| one.models_offered).max().unwrap_or_default();
    }

    /// Whether a coordinator can send jobs that can be served: the readiness check.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Connected && self.models_offered > 0
    }
}
