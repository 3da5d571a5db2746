//! The whole state of the router as one value: for the status page and for tests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::job::{Phase, Work};
use super::sessions::{Connection, Session};
use super::{Drain, Router};
use crate::core::scheduling::backend_states::BackendView;
use crate::messages::ids::{BackendId, CoordinatorId, Generation, JobId, ModelId, SessionId};
use crate::messages::wire::ModelOffer;

/// The state of a router at one moment. Times are milliseconds relative to that moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouterView {
    /// The most concurrent jobs over all backends.
    max_concurrent_total: u32,
    /// How far the agent is with its shutdown.
    drain: Drain,
    /// Whether the operator has paused the agent.
    paused: bool,
    /// The connections on which jobs arrive: one for each coordinator that is connected.
    connections: Vec<ConnectionView>,
    /// The sessions, which outlive connections where `resume` was agreed on.
    sessions: Vec<SessionView>,
    /// Accepted jobs that have not ended, in the order of acceptance.
    jobs: Vec<JobView>,
    /// How many of them wait for their first slot.
    waiting: usize,
    /// How many of them wait for a retry.
    retrying: usize,
    /// The backends of the offered models.
    backends: BTreeMap<BackendId, BackendView>,
    /// Backends whose workers can be given jobs.
    ready: Vec<BackendId>,
    /// The token budget, if there is one.
    budget: Option<BudgetView>,
    /// Prefixes of prompts whose backend is remembered.
    remembered_prefixes: usize,
    /// When the router has to be woken without another input.
    due_in_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ConnectionView {
    /// The coordinator, by its place in the configured list.
    coordinator: CoordinatorId,
    generation: u64,
    /// The capabilities that were sent last; none before the first ones.
    announced: Option<Vec<ModelOffer>>,
    /// When delayed capabilities will be sent.
    announce_in_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SessionView {
    coordinator: CoordinatorId,
    /// The number of its first connection.
    session: u64,
    /// The connection that carries its frames.
    connection: Option<u64>,
    /// Ended jobs that the coordinator has not acknowledged.
    kept: usize,
    /// Response bytes of all its jobs that are not acknowledged.
    kept_bytes: u64,
    /// Without a connection: when it ends with its jobs. `None` during a handshake that may go on with it.
    ends_in_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct JobView {
    job: JobId,
    model: ModelId,
    phase: &'static str,
    /// The backend where it has its slot.
    backend: Option<BackendId>,
    /// Backends that have failed it.
    tried: Vec<BackendId>,
    age_ms: u64,
    /// From its receipt to the first byte of its response.
    first_byte_ms: Option<u64>,
    /// Events of its streamed response: about one a token.
    events: u64,
    /// Events a second since the first byte.
    events_per_s: f64,
    deadline_in_ms: u64,
    /// Estimated tokens of the prompt and of the answers.
    estimate: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct BudgetView {
    /// Tokens reserved by jobs that have not ended.
    reserved: u64,
    /// Tokens that count now, including the reserved ones.
    counted: u64,
    per_minute: u64,
}

impl RouterView {
    /// Jobs that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.waiting + self.retrying
    }

    /// Jobs that were accepted and have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Events a second of all running streams together: about as many tokens.
    pub(crate) fn events_per_s(&self) -> f64 {
        self.jobs.iter().map(|job| job.events_per_s).sum()
    }

    /// Ended jobs that the coordinator has not acknowledged.
    pub fn kept(&self) -> usize {
        self.sessions.iter().map(|session| session.kept).sum()
    }

    /// Response bytes that the coordinator has not acknowledged.
    pub fn kept_bytes(&self) -> u64 {
        self.sessions.iter().map(|session| session.kept_bytes).sum()
    }
}

impl<W: Work> Router<W> {
    /// The state of the router at `now`.
    pub(crate) fn view(&self, now: Instant) -> RouterView {
        let until = |at: Instant| millis(at.saturating_duration_since(now));
        let jobs = self.ledger.iter().map(|entry| {
            let (age, work) = (now.saturating_duration_since(entry.state.received), &entry.state.work);
            let first_byte = work.first_byte().map(|at| at.saturating_duration_since(entry.state.received));
            JobView {
                job: entry.job,
                model: entry.state.model.clone(),
                phase: match entry.state.phase {
                    Phase::Waiting => "waiting",
                    Phase::Running => "running",
                    Phase::Retrying(_) => "retrying",
                    Phase::Ending => "ending",
                },
                backend: entry.backend.clone(),
                tried: entry.state.tried.clone(),
                age_ms: millis(age),
                first_byte_ms: first_byte.map(millis),
                events: work.events(),
                events_per_s: first_byte.map_or(0.0, |first_byte| rate(work.events(), age.saturating_sub(first_byte))),
                deadline_in_ms: until(entry.state.deadline),
                estimate: (entry.state.estimate.prompt, entry.state.estimate.answers()),
            }
        });
        let session = |(id, session): (&SessionId, &Session<W>)| SessionView {
            coordinator: id.coordinator(),
            session: id.0.number,
            connection: session.presence.connection().map(|connection| connection.number),
            kept: session.kept.len(),
            kept_bytes: self.kept_bytes(*id, session),
            ends_in_ms: session.presence.ends_at().map(until),
        };
        let connection = |(generation, connection): (Generation, &Connection)| ConnectionView {
            coordinator: generation.coordinator,
            generation: generation.number,
            announced: connection.announced.as_ref().map(|announced| announced.models.clone()),
            announce_in_ms: connection.announce_at.map(until),
        };
        let in_phase =
            |wanted: fn(&Phase) -> bool| self.ledger.iter().filter(|entry| wanted(&entry.state.phase)).count();
        let mut ready: Vec<BackendId> = self.ready.iter().cloned().collect();
        ready.sort();
        RouterView {
            max_concurrent_total: self.settings.limits.max_concurrent_total,
            drain: self.drain,
            paused: self.paused,
            connections: self.current().map(connection).collect(),
            sessions: self.sessions.iter().map(session).collect(),
            jobs: jobs.collect(),
            waiting: in_phase(|phase| *phase == Phase::Waiting),
            retrying: in_phase(|phase| matches!(phase, Phase::Retrying(_))),
            backends: self.backends.view(now).map(|(id, view)| (id.clone(), view)).collect(),
            ready,
            budget: self.budget.as_ref().map(|budget| BudgetView {
                reserved: tokens(budget.reserved()),
                counted: tokens(budget.clone().counted(now)),
                per_minute: self.settings.limits.max_tokens_per_minute.unwrap_or_default(),
            }),
            remembered_prefixes: self.affinity.len(),
            due_in_ms: self.due_at(now).map(until),
        }
    }
}

impl<W: Work> Router<W> {
    fn kept_bytes(&self, id: SessionId, session: &Session<W>) -> u64 {
        let running = self.ledger.iter().filter(|entry| entry.session == id).map(|entry| &entry.state.work);
        let works = running.chain(session.kept.values().map(|(_, work)| work));
        works.map(|work| work.delivery()).map(|delivery| delivery.produced() - delivery.acknowledged()).sum()
    }
}

/// Events a second. None, where there was too little time to tell.
fn rate(events: u64, time: Duration) -> f64 {
    if time < Duration::from_millis(100) { 0.0 } else { (events as f64 / time.as_secs_f64() * 10.0).round() / 10.0 }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tokens(tokens: u128) -> u64 {
    u64::try_from(tokens).unwrap_or(u64::MAX)
}
