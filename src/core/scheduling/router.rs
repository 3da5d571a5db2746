//! The router: which job is accepted, where it runs, when it is retried, and when it ends. A state machine without IO.
//!
//! The driver's contract: call one input at a time, with the current time, which never goes back. After each input, take
//! all effects with [`Router::next_effect`] and carry them out in order. When an [`Effect::WakeAt`] is due, call
//! [`Router::tick`]. Nothing here waits, and nothing else counts jobs: the ledger holds each accepted job from its
//! acceptance to its end.
//!
//! Invariants, see [`Broken`]:
//!
//! - ROUTER-1: the ledger's own invariants hold, and no backend has more jobs than its limit allowed when they were placed.
//! - ROUTER-2: every job that is not ending has a timer that is due no later than its deadline.
//! - ROUTER-3: a job that is running has a slot. A job that waits for its first slot or for a retry has none and is in its
//!   queue.
//! - ROUTER-4: the tokens that the budget has reserved are those reserved by the jobs in the ledger.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::affinity::Affinity;
use super::backend_states::BackendStates;
use super::breaker::{BreakerToken, Verdict};
use super::budget::TokenBudget;
use super::catalog::Catalog;
use super::ledger::{Entry, Ledger};
use super::load::{Ended, LoadWindow};
use crate::messages::cause::Cause;
use crate::messages::ids::{BackendId, Generation, JobId, SessionId};
use crate::messages::jobs::{Evidence, Failure, Outcome, Ticket};
use crate::messages::wire::{Heartbeat, Limits, Tokens};

#[cfg(any(test, fuzzing))]
mod check;
mod connections;
mod effect;
#[cfg(any(test, fuzzing))]
mod fingerprint;
mod job;
mod offers;
mod placement;
mod sessions;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, some of which the fuzzer runs too")]
pub(crate) mod tests;
mod view;

pub(crate) use effect::{Effect, FailCause, Refusal, RouterEvent, Submitted};
use job::{JobState, Phase};
pub(crate) use job::{NewJob, Progress, Work};
use sessions::{Connection, Session};
pub(crate) use view::RouterView;

/// Constant for the life of a router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterSettings {
    /// The agent's bounds, which are sent to the coordinator and which the ledger applies.
    pub limits: Limits,
    /// When the first capabilities are sent even if not every backend has been probed.
    pub settle_at: Instant,
}

/// Decides about jobs. `W` is the driver's part of a job.
#[derive(Clone, Debug)]
pub(crate) struct Router<W> {
    settings: RouterSettings,
    ledger: Ledger<JobState<W>>,
    catalog: Arc<Catalog>,
    /// Backends whose workers can be given jobs.
    ready: HashSet<BackendId>,
    /// Every backend was probed once, or `settle_at` has passed.
    settled: bool,
    /// The live connections.
    connections: BTreeMap<Generation, Connection>,
    sessions: BTreeMap<SessionId, Session<W>>,
    backends: BackendStates,
    affinity: Affinity,
    budget: Option<TokenBudget>,
    /// Accepted jobs that wait for their first slot, which will be free soon.
    wait_queue: VecDeque<Ticket>,
    /// Jobs that failed on a backend and wait for a slot on another one. They are served before the wait queue.
    retry_queue: VecDeque<Ticket>,
    /// The timer of every job that is not ending.
    timers: BTreeSet<(Instant, Ticket)>,
    load: LoadWindow,
    drain: Drain,
    /// The operator has paused the agent: nothing is offered, and running jobs go on.
    paused: bool,
    /// The number of running jobs that was reported last while draining.
    still_running: Option<usize>,
    /// The time of the last [`Effect::WakeAt`] that is not due yet.
    wake_at: Option<Instant>,
    effects: VecDeque<Effect<W>>,
}

/// How far the agent is with its shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Drain {
    No,
    /// No new job is accepted; running ones may end.
    Finishing,
    /// Running jobs are ended.
    Ending,
}

impl<W: Work> Router<W> {
    /// A router without a job, a backend or a connection. `keyed` keys the hashes of prompts.
    pub(crate) fn new(settings: RouterSettings, keyed: RandomState) -> Self {
        Self {
            ledger: Ledger::new(settings.limits.max_concurrent_total),
            budget: settings.limits.max_tokens_per_minute.map(TokenBudget::new),
            settings,
            catalog: Arc::default(),
            ready: HashSet::new(),
            settled: false,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            backends: BackendStates::default(),
            affinity: Affinity::new(keyed),
            wait_queue: VecDeque::new(),
            retry_queue: VecDeque::new(),
            timers: BTreeSet::new(),
            load: LoadWindow::default(),
            drain: Drain::No,
            paused: false,
            still_running: None,
            wake_at: None,
            effects: VecDeque::new(),
        }
    }

    /// The next effect. To be called until there is none, after each input.
    pub(crate) fn next_effect(&mut self) -> Option<Effect<W>> {
        self.effects.pop_front()
    }

    /// The driver's part of a job that has not ended, or is kept until it is acknowledged.
    pub(crate) fn work(&mut self, ticket: Ticket) -> Option<&mut W> {
        if let Some(state) = self.ledger.state(ticket) {
            return Some(&mut state.work);
        }
        self.sessions.values_mut().find_map(|session| session.kept.get_mut(&ticket)).map(|(_, work)| work)
    }

    /// The id of a job that has not ended.
    pub(crate) fn job(&self, ticket: Ticket) -> Option<JobId> {
        self.ledger.get(ticket).map(|entry| entry.job)
    }

    /// The last frame of a job was written `duration` after its receipt, at `at` by the wall clock; or there will be none.
    /// A job that left the ledger before is ignored.
    pub(crate) fn ended(&mut self, now: Instant, at: SystemTime, ticket: Ticket, outcome: Outcome, duration: Duration) {
        let Some(mut entry) = self.ledger.end(ticket) else { return };
        self.timers.remove(&(entry.state.timer, ticket));
        if let Some(backend) = &entry.backend {
            // A job that was ending, and did not complete at the same moment, was taken from its backend as by a
            // cancel.
            match (entry.state.phase, &outcome) {
                (Phase::Ending, Outcome::Failed(_)) => self.backends.on_cancel(backend, now),
                _ => self.backends.on_end(backend, now),
            }
        }
        let mut verdict = Verdict::Neutral;
        match outcome {
            Outcome::Done { tokens } => {
                self.load.record(now, at, &Ended { duration, tokens, error: None });
                if let Some(backend) = &entry.backend {
                    self.affinity.on_served(&entry.state.prefixes, backend, now);
                }
                verdict = Verdict::Success;
            }
            Outcome::Failed(Failure { code, evidence, probe, .. }) => {
                self.load.record(now, at, &Ended { duration, tokens: Tokens::default(), error: Some(code) });
                if let Some(backend) = entry.backend.clone().filter(|_| probe) {
                    self.effects.push_back(Effect::Probe(backend));
                }
                if evidence == Evidence::Backend {
                    verdict = Verdict::Fault;
                }
            }
            Outcome::Cancelled => {}
        }
        self.settle_budget(&mut entry.state, &outcome, now);
        self.record_outcome(now, entry.backend.as_ref(), &mut entry.state, verdict);
        let cause = match &outcome {
            Outcome::Done { .. } => None,
            Outcome::Failed(failure) => Some(failure.cause),
            Outcome::Cancelled => Some(Cause::Cancelled),
        };
        let (session, job) = (entry.session, entry.job);
        let mut work = Some(self.report_end(entry, outcome, cause, duration));
        if let Some(session) = self.sessions.get_mut(&session) {
            session.note_end(now, job);
            work = work.and_then(|work| session.keep(ticket, job, work));
        }
        self.effects.extend(work.map(|work| Effect::Release { work }));
        self.close_retired();
        self.serve_queues(now);
        self.schedule(now);
    }

    /// A server whose load was requested at `asked` reports its active requests, of all clients.
    pub(crate) fn load_report(&mut self, now: Instant, backend: &BackendId, active: u32, asked: Instant) {
        let ours = self.ledger.on_backend(backend);
        self.backends.on_load(backend, active, ours, asked, now);
        self.announce(now);
        self.serve_queues(now);
        self.schedule(now);
    }

    /// The catalog changed, or the set of backends with workers. `complete`: every backend has been probed once.
    pub(crate) fn routes_changed(
        &mut self,
        now: Instant,
        catalog: Arc<Catalog>,
        ready: HashSet<BackendId>,
        complete: bool,
    ) {
        self.backends.update(&catalog);
        (self.catalog, self.ready) = (catalog, ready);
        self.settled |= complete;
        self.announce(now);
        self.serve_queues(now);
        self.schedule(now);
    }

    /// A backend's workers are lost, and with them the work on its jobs. It gets no job until [`Self::routes_changed`]
    /// reports workers again.
    pub(crate) fn pool_lost(&mut self, now: Instant, backend: &BackendId) {
        self.ready.remove(backend);
        let there = self.ledger.iter().filter(|entry| entry.backend.as_ref() == Some(backend));
        let tickets: Vec<Ticket> = there.map(|entry| entry.ticket).collect();
        for ticket in tickets {
            self.fail(ticket, FailCause::WorkerLost);
        }
        self.schedule(now);
    }

    /// The agent is shutting down: no new job is accepted.
    pub(crate) fn stop_accepting(&mut self, now: Instant) {
        if self.drain == Drain::No {
            self.drain = Drain::Finishing;
            self.announce_drain(now, &self.current_generations());
        }
        self.report_running();
    }

    /// The operator pauses the agent, or ends the pause. Accepted jobs go on.
    pub(crate) fn set_paused(&mut self, now: Instant, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.announce(now);
            self.schedule(now);
        }
    }

    /// Every job is to end now.
    pub(crate) fn end_jobs(&mut self, now: Instant) {
        self.drain = Drain::Ending;
        let open: Vec<(Ticket, Phase)> = self.ledger.iter().map(|entry| (entry.ticket, entry.state.phase)).collect();
        for (ticket, phase) in open {
            // A job that never had a slot is refused like a new one.
            let waits = phase == Phase::Waiting;
            self.fail(ticket, if waits { FailCause::Refused(Refusal::Stopping) } else { FailCause::Stopping });
        }
        self.report_running();
        self.schedule(now);
    }

    /// Handles everything that is due without another input: deadlines, load polls, ends of cool-downs, delayed
    /// capabilities.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.wake_at = None;
        for backend in self.backends.due(now) {
            self.effects.push_back(Effect::AskLoad(backend));
        }
        while let Some((at, ticket)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, ticket));
            self.timer_fired(now, ticket);
        }
        self.end_due_sessions(now);
        self.announce(now);
        self.serve_queues(now);
        self.schedule(now);
    }

    /// The figures of the last minute.
    pub(crate) fn heartbeat(&mut self, now: Instant) -> Heartbeat {
        self.load.heartbeat(now, self.ledger.in_flight() as u64)
    }

    fn event(&mut self, event: RouterEvent) {
        self.effects.push_back(Effect::Event(event));
    }

    /// A job that left the ledger to be dropped: nothing more is sent of it.
    fn cancelled(&mut self, now: Instant, mut entry: Entry<JobState<W>>, cause: Cause) {
        self.timers.remove(&(entry.state.timer, entry.ticket));
        if let Some(backend) = &entry.backend {
            self.backends.on_cancel(backend, now);
        }
        self.settle_budget(&mut entry.state, &Outcome::Cancelled, now);
        self.record_outcome(now, entry.backend.as_ref(), &mut entry.state, Verdict::Neutral);
        let duration = now.saturating_duration_since(entry.state.received);
        let work = self.report_end(entry, Outcome::Cancelled, Some(cause), duration);
        self.effects.push_back(Effect::Cancel { work });
    }

    /// Reports the end of a job, and returns its work.
    fn report_end(
        &mut self,
        entry: Entry<JobState<W>>,
        outcome: Outcome,
        cause: Option<Cause>,
        duration: Duration,
    ) -> W {
        let Entry { job, session, backend, state: JobState { work, model, endpoint, price, received, .. }, .. } = entry;
        let coordinator = session.coordinator();
        let first_byte = work.first_byte().map(|at| at.saturating_duration_since(received));
        self.event(RouterEvent::Ended {
            job,
            coordinator,
            model,
            endpoint,
            backend,
            price,
            outcome,
            cause,
            first_byte,
            duration,
        });
        work
    }

    /// Ends a job with an error, once.
    fn fail(&mut self, ticket: Ticket, cause: FailCause) {
        let Some(state) = self.ledger.state(ticket).filter(|state| state.phase != Phase::Ending) else { return };
        state.phase = Phase::Ending;
        self.timers.remove(&(state.timer, ticket));
        self.effects.push_back(Effect::Fail { ticket, cause });
    }

    /// Records the outcome of an ended job for its last backend, and for those that failed it before: if the last one
    /// succeeded, the earlier failures were not caused by the job.
    fn record_outcome(&mut self, now: Instant, backend: Option<&BackendId>, state: &mut JobState<W>, verdict: Verdict) {
        let last = backend.map(|backend| (backend.clone(), state.token.take(), verdict));
        let of_suspects = if verdict == Verdict::Success { Verdict::Fault } else { Verdict::Neutral };
        let suspects = std::mem::take(&mut state.suspects).into_iter();
        let suspects = suspects.map(|suspect| (suspect.backend, suspect.token, of_suspects));
        self.report_verdicts(now, last.into_iter().chain(suspects));
    }

    /// Reports what a job says of its backends to their breakers, and announces the change of the offer, if any.
    fn report_verdicts(
        &mut self,
        now: Instant,
        verdicts: impl IntoIterator<Item = (BackendId, Option<BreakerToken>, Verdict)>,
    ) {
        let mut is_changed = false;
        for (backend, token, verdict) in verdicts {
            let Some(token) = token else { continue };
            let before = self.backends.usable(&backend, now);
            self.backends.report(&backend, token, verdict, now);
            let after = self.backends.usable(&backend, now);
            is_changed |= before != after;
            if before != after && after == 0 {
                self.event(RouterEvent::BreakerOpened { backend });
            }
        }
        // Not before all are reported: an offer counts on none that is open, and the next one may have to wait.
        if is_changed {
            self.announce(now);
        }
    }
}
