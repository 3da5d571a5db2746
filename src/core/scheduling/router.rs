//! The router: which job is accepted, where it runs, when it is retried, and when it ends. A state machine without IO.
//!
//! The driver's contract: call one input at a time, each with the time of that moment, which never goes back; after each,
//! take all effects with [`Router::next_effect`] and carry them out in order. When a [`Effect::WakeAt`] is due, call
//! [`Router::tick`]. Nothing here waits, and nothing else counts jobs: the ledger holds each accepted job from its
//! acceptance to its one end.
//!
//! What always holds, in the words of [`Broken`]:
//!
//! - ROUTER-1: the ledger's own invariants hold, and no backend has more jobs than its limit allowed when they were placed.
//! - ROUTER-2: every job has a timer that is due no later than its deadline, until it was told to end.
//! - ROUTER-3: a job that runs has a slot; one that waits or is to be retried has none, and is in its queue.
//! - ROUTER-4: what the budget has reserved is what the jobs in the ledger have reserved.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::affinity::Affinity;
use super::backend_states::BackendStates;
use super::breaker::{BreakerToken, Verdict};
use super::budget::TokenBudget;
use super::catalog::Catalog;
use super::debounce::Debounce;
use super::ledger::{Entry, Ledger};
use super::load::{Ended, LoadWindow};
use crate::messages::cause::Cause;
use crate::messages::ids::{BackendId, Generation, JobId};
use crate::messages::jobs::{Evidence, Failure, Outcome, Ticket};
use crate::messages::wire::{Capabilities, Extensions, Heartbeat, Limits, Tokens};

mod check;
mod effect;
mod job;
mod offers;
mod placement;
#[cfg(test)]
mod tests;
mod view;

pub use check::Broken;
pub use effect::{Effect, FailCause, Refusal, RouterEvent, Submitted};
use job::{JobState, Phase};
pub use job::{NewJob, Progress, Work};
pub use view::RouterView;

/// What holds for the life of a router.
#[derive(Clone, Copy, Debug)]
pub struct RouterSettings {
    /// What the coordinator is told of the agent's bounds, and what the ledger holds to.
    pub limits: Limits,
    /// When capabilities are sent even though not every backend has been probed.
    pub settle_at: Instant,
}

/// Decides about jobs. `W` is the driver's own part of a job.
#[derive(Debug)]
pub struct Router<W> {
    settings: RouterSettings,
    ledger: Ledger<JobState<W>>,
    catalog: Arc<Catalog>,
    /// Backends whose workers can be given jobs.
    ready: HashSet<BackendId>,
    /// Every backend was probed once, or there was time enough.
    settled: bool,
    connection: Option<Connection>,
    backends: BackendStates,
    affinity: Affinity,
    budget: Option<TokenBudget>,
    /// Accepted jobs that wait for their first slot, which is about to be free.
    wait_queue: VecDeque<Ticket>,
    /// Jobs that a backend has failed and that wait for a slot on another one. They come before those that wait.
    retry_queue: VecDeque<Ticket>,
    /// The timer of every job that was not told to end.
    timers: BTreeSet<(Instant, Ticket)>,
    load: LoadWindow,
    drain: Drain,
    /// What was reported last while draining.
    still_running: Option<usize>,
    /// The time of the last [`Effect::WakeAt`] that has not come.
    wake_at: Option<Instant>,
    effects: VecDeque<Effect<W>>,
}

/// The connection that jobs come by.
#[derive(Debug)]
struct Connection {
    generation: Generation,
    agreed: Extensions,
    /// What it was sent last.
    announced: Option<Capabilities>,
    /// Spaces what it is sent later.
    debounce: Debounce,
    /// When a change that is held back is due.
    announce_at: Option<Instant>,
}

/// Whether the agent was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Drain {
    No,
    /// What was accepted may end.
    Finishing,
    /// What was accepted is ended.
    Ending,
}

impl<W: Work> Router<W> {
    /// A router without a job, a backend or a connection. `keyed` keys the hashes of prompts.
    pub fn new(settings: RouterSettings, keyed: RandomState) -> Self {
        Self {
            ledger: Ledger::new(settings.limits.max_concurrent_total),
            budget: settings.limits.max_tokens_per_minute.map(TokenBudget::new),
            settings,
            catalog: Arc::default(),
            ready: HashSet::new(),
            settled: false,
            connection: None,
            backends: BackendStates::default(),
            affinity: Affinity::new(keyed),
            wait_queue: VecDeque::new(),
            retry_queue: VecDeque::new(),
            timers: BTreeSet::new(),
            load: LoadWindow::default(),
            drain: Drain::No,
            still_running: None,
            wake_at: None,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do. To be asked until there is none, after each input.
    pub fn next_effect(&mut self) -> Option<Effect<W>> {
        self.effects.pop_front()
    }

    /// The driver's part of a job that has not ended.
    pub fn work(&mut self, ticket: Ticket) -> Option<&mut W> {
        self.ledger.state(ticket).map(|state| &mut state.work)
    }

    /// The job's id, for as long as it has not ended.
    pub fn job(&self, ticket: Ticket) -> Option<JobId> {
        self.ledger.get(ticket).map(|entry| entry.job)
    }

    /// A connection is up: jobs can come by it. It replaces the one before.
    pub fn connection_up(&mut self, now: Instant, generation: Generation, agreed: Extensions) {
        let debounce = Debounce::default();
        self.connection = Some(Connection { generation, agreed, announced: None, debounce, announce_at: None });
        self.announce(now);
        self.schedule(now);
    }

    /// A connection is over, and so are its jobs.
    pub fn connection_down(&mut self, now: Instant, generation: Generation) {
        self.connection.take_if(|connection| connection.generation == generation);
        for entry in self.ledger.end_generation(generation) {
            self.cancelled(now, entry, Cause::ConnectionLost);
        }
        self.serve_queues(now);
        self.schedule(now);
    }

    /// The coordinator cancels a job. One that is not known has ended: a cancel that crossed its last frame is no fault.
    pub fn cancel(&mut self, now: Instant, generation: Generation, job: JobId) {
        if let Some(entry) = self.ledger.cancel(job, generation) {
            self.cancelled(now, entry, Cause::Cancelled);
            self.serve_queues(now);
            self.schedule(now);
        }
    }

    /// The last frame of a job was written after `duration`, at `at` by the wall clock; or there will be none. The end of a
    /// job that left the ledger before is no fault.
    pub fn ended(&mut self, now: Instant, at: SystemTime, ticket: Ticket, outcome: Outcome, duration: Duration) {
        let Some(mut entry) = self.ledger.end(ticket) else { return };
        self.timers.remove(&(entry.state.timer, ticket));
        if let Some(backend) = &entry.backend {
            // A job that was told to end, and did not end by itself just then, was taken from its backend as by a cancel.
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
        let work = self.report_end(entry, outcome, cause, duration);
        self.effects.push_back(Effect::Release { work });
        self.serve_queues(now);
        self.schedule(now);
    }

    /// A server that was asked at `asked` reports how many requests it works, whoever sent them.
    pub fn load_report(&mut self, now: Instant, backend: &BackendId, busy: u32, asked: Instant) {
        let ours = self.ledger.on_backend(backend);
        self.backends.on_load(backend, busy, ours, asked, now);
        self.announce(now);
        self.serve_queues(now);
        self.schedule(now);
    }

    /// What is on offer changed, or whose workers can be given jobs. `complete`: every backend has been probed once.
    pub fn routes_changed(&mut self, now: Instant, catalog: Arc<Catalog>, ready: HashSet<BackendId>, complete: bool) {
        self.backends.update(&catalog);
        (self.catalog, self.ready) = (catalog, ready);
        self.settled |= complete;
        self.announce(now);
        self.serve_queues(now);
        self.schedule(now);
    }

    /// A backend's workers are gone, and with them the work on its jobs. It gets no job until [`Self::routes_changed`] says
    /// that it has workers again.
    pub fn pool_lost(&mut self, now: Instant, backend: &BackendId) {
        self.ready.remove(backend);
        let there = self.ledger.iter().filter(|entry| entry.backend.as_ref() == Some(backend));
        let tickets: Vec<Ticket> = there.map(|entry| entry.ticket).collect();
        for ticket in tickets {
            self.fail(ticket, FailCause::WorkerLost);
        }
        self.schedule(now);
    }

    /// The agent was told to stop: no job is accepted any more.
    pub fn stop_accepting(&mut self) {
        if self.drain == Drain::No {
            self.drain = Drain::Finishing;
        }
        self.report_running();
    }

    /// Every job is to end now.
    pub fn end_jobs(&mut self, now: Instant) {
        self.drain = Drain::Ending;
        let open: Vec<(Ticket, Phase)> = self.ledger.iter().map(|entry| (entry.ticket, entry.state.phase)).collect();
        for (ticket, phase) in open {
            // What never had a slot is refused like what comes now.
            let waits = phase == Phase::Waiting;
            self.fail(ticket, if waits { FailCause::Refused(Refusal::Stopping) } else { FailCause::Stopping });
        }
        self.report_running();
        self.schedule(now);
    }

    /// Looks after all that no other input announces: deadlines, loads to be asked for, cool-downs that end, changes that
    /// were held back.
    pub fn tick(&mut self, now: Instant) {
        self.wake_at = None;
        for backend in self.backends.due(now) {
            self.effects.push_back(Effect::AskLoad(backend));
        }
        while let Some((at, ticket)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, ticket));
            self.timer_fired(now, ticket);
        }
        self.announce(now);
        self.serve_queues(now);
        self.schedule(now);
    }

    /// The figures of the last minute.
    pub fn heartbeat(&mut self, now: Instant) -> Heartbeat {
        self.load.heartbeat(now, self.ledger.in_flight() as u64)
    }

    /// Accepted jobs that have not ended.
    pub fn in_flight(&self) -> usize {
        self.ledger.in_flight()
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
        let Entry { job, backend, state: JobState { work, model, received, .. }, .. } = entry;
        let first_byte = work.first_byte().map(|at| at.saturating_duration_since(received));
        self.event(RouterEvent::Ended { job, model, backend, outcome, cause, first_byte, duration });
        work
    }

    /// Tells a job to end with an error, once.
    fn fail(&mut self, ticket: Ticket, cause: FailCause) {
        let Some(state) = self.ledger.state(ticket).filter(|state| state.phase != Phase::Ending) else { return };
        state.phase = Phase::Ending;
        self.timers.remove(&(state.timer, ticket));
        self.effects.push_back(Effect::Fail { ticket, cause });
    }

    /// What a job that is at its end has shown of the backend that had it last, and of those that failed it before: where
    /// this one did the job, the job was not at fault.
    fn record_outcome(&mut self, now: Instant, backend: Option<&BackendId>, state: &mut JobState<W>, verdict: Verdict) {
        if let Some(backend) = backend {
            self.report_verdict(now, backend, state.token.take(), verdict);
        }
        let of_suspects = if verdict == Verdict::Success { Verdict::Fault } else { Verdict::Neutral };
        for suspect in std::mem::take(&mut state.suspects) {
            self.report_verdict(now, &suspect.backend, suspect.token, of_suspects);
        }
    }

    /// Tells a backend's breaker what a job has shown. An offer may follow.
    fn report_verdict(&mut self, now: Instant, backend: &BackendId, token: Option<BreakerToken>, verdict: Verdict) {
        let Some(token) = token else { return };
        let before = self.backends.usable(backend, now);
        self.backends.report(backend, token, verdict, now);
        let after = self.backends.usable(backend, now);
        if before != after {
            if after == 0 {
                self.event(RouterEvent::BreakerOpened { backend: backend.clone() });
            }
            self.announce(now);
        }
    }

    fn report_running(&mut self) {
        if self.drain != Drain::No && self.still_running != Some(self.ledger.in_flight()) {
            self.still_running = Some(self.ledger.in_flight());
            self.effects.push_back(Effect::StillRunning(self.ledger.in_flight()));
        }
    }
}
