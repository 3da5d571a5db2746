//! The state of an agent as one value, folded from its events.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::messages::ids::ModelId;
use crate::messages::jobs::Outcome;
use crate::messages::lifecycle::Child;
use crate::messages::wire::ErrorCode;

/// Where the agent stands with its coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing was tried yet.
    #[default]
    Starting,
    /// A connection is being made.
    Connecting,
    /// Jobs can come.
    Connected,
    /// The next try is set.
    Waiting,
    /// Told to stop.
    Draining,
    /// Done.
    Stopped,
}

/// Everything `/status` prints, and what tests assert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The agent's version.
    pub version: String,
    /// Base64 of its public key.
    pub pubkey: String,
    /// The name the coordinator gave it.
    pub provider_id: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// Host and port of the coordinator.
    pub coordinator: String,
    /// The number of the current or last connection.
    pub generation: u64,
    /// When the current connection was established, RFC 3339.
    pub connected_since: Option<String>,
    /// Connections established so far.
    pub connections: u64,
    /// Tries that failed in a row.
    pub failures: u32,
    /// Why there is no connection, or why the last one ended.
    pub last_disconnect: Option<String>,
    /// The backends that were seen.
    pub backends: BTreeMap<String, BackendState>,
    /// Models the coordinator was told of.
    pub models_offered: usize,
    /// Jobs accepted and not ended.
    pub in_flight: u64,
    /// What became of jobs.
    pub jobs: JobCounts,
    /// Tokens of jobs done, as reported.
    pub tokens: TokenCounts,
    /// Frames passed over.
    pub frames_skipped: u64,
    /// Messages of earlier connections dropped.
    pub stale_dropped: u64,
    /// Actors replaced, workers included.
    pub actors_replaced: u64,
}

/// A backend as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendState {
    /// Whether it was healthy.
    pub up: bool,
    /// Its kind, once it was seen.
    pub kind: Option<String>,
    /// Its models.
    pub models: Vec<ModelId>,
    /// Why it is down.
    pub cause: Option<String>,
    /// How often it got no jobs for a while because it had failed too many.
    pub breaker_opened: u64,
}

/// Counts of jobs since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Accepted.
    pub admitted: u64,
    /// Ended with `job_done`.
    pub done: u64,
    /// Moves to another backend, because one failed a job before anything of an answer went up.
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
    fn running(&self) -> u64 {
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
    /// Folds one event in.
    pub fn apply(&mut self, event: &Event, at: SystemTime) {
        match event {
            Event::Dialling { generation, target } => {
                self.enter(Phase::Connecting);
                self.generation = generation.0;
                self.coordinator.clone_from(target);
            }
            Event::Connected { provider_id, .. } => {
                self.enter(Phase::Connected);
                self.connections += 1;
                self.failures = 0;
                self.connected_since = Some(humantime::format_rfc3339_seconds(at).to_string());
                self.provider_id = provider_id.as_ref().map(ToString::to_string);
            }
            Event::Disconnected { cause, .. } => self.disconnected(cause),
            Event::ConnectFailed { cause, failures, .. } => {
                self.disconnected(cause);
                self.failures = *failures;
            }
            Event::Retrying { .. } => self.enter(Phase::Waiting),
            Event::CapabilitiesSent { models, .. } => self.models_offered = *models,
            Event::BackendUp { backend, kind, models } => {
                let state = self.backends.entry(backend.to_string()).or_default();
                state.up = true;
                state.kind = Some(kind.to_string());
                state.models.clone_from(models);
                state.cause = None;
            }
            Event::BackendDown { backend, cause } => {
                let state = self.backends.entry(backend.clone()).or_default();
                state.up = false;
                state.models.clear();
                state.cause = Some(cause.clone());
            }
            Event::JobAccepted { .. } => self.jobs.admitted += 1,
            Event::JobMoved { .. } => self.jobs.moved += 1,
            Event::BreakerOpened { backend } => {
                self.backends.entry(backend.to_string()).or_default().breaker_opened += 1;
            }
            Event::JobRefused { refusal, .. } => count(&mut self.jobs.refused, refusal.code()),
            Event::JobEnded { outcome: Outcome::Done { tokens }, .. } => {
                self.jobs.done += 1;
                self.tokens.input = self.tokens.input.saturating_add(tokens.input);
                self.tokens.output = self.tokens.output.saturating_add(tokens.output);
            }
            Event::JobEnded { outcome: Outcome::Failed(failure), .. } => count(&mut self.jobs.failed, failure.code),
            Event::JobEnded { outcome: Outcome::Cancelled, .. } => self.jobs.cancelled += 1,
            Event::FrameSkipped { .. } => self.frames_skipped += 1,
            Event::StaleDropped { .. } => self.stale_dropped += 1,
            Event::ChildReplaced { child } => {
                self.actors_replaced += 1;
                if *child == Child::Router {
                    // Its ledger went with it, and so did the jobs in it.
                    self.jobs.cancelled += self.in_flight;
                }
            }
            Event::WorkerLost { .. } => self.actors_replaced += 1,
            Event::Draining { .. } => self.phase = Phase::Draining,
            Event::Stopped => self.phase = Phase::Stopped,
            Event::ProviderIdReplaced { .. }
            | Event::ProviderIdNotStored { .. }
            | Event::JobStarted { .. }
            | Event::StillTrying { .. }
            | Event::CloudModelsNotOffered { .. }
            | Event::NothingOnOffer { .. }
            | Event::GivingUp
            | Event::DrainProgress { .. }
            | Event::DrainCutShort { .. } => {}
        }
        self.in_flight = self.jobs.running();
    }

    /// A drain is not undone by what the connection does meanwhile.
    fn enter(&mut self, phase: Phase) {
        if !matches!(self.phase, Phase::Draining | Phase::Stopped) {
            self.phase = phase;
        }
    }

    fn disconnected(&mut self, cause: &str) {
        self.connected_since = None;
        self.models_offered = 0;
        self.last_disconnect = Some(cause.to_owned());
    }

    /// Whether the coordinator can send jobs that can be served: what a readiness check wants to know.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Connected && self.models_offered > 0
    }
}

fn count(by_code: &mut BTreeMap<String, u64>, code: ErrorCode) {
    *by_code.entry(code.as_str().to_owned()).or_default() += 1;
}
