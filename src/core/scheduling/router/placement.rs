//! Chooses a backend for a job: at first, after a failure before the first response byte, and after a wait for a slot.

use std::time::{Duration, Instant};

use super::effect::{Effect, FailCause, Refusal, RouterEvent, Submitted};
use super::job::{JobState, NewJob, Phase, Progress, Suspect, Work};
use super::sessions::Role;
use super::{Drain, Router};
use crate::core::scheduling::affinity::PrefixHashes;
use crate::core::scheduling::breaker::Verdict;
use crate::core::scheduling::catalog::Model;
use crate::core::scheduling::estimate::Estimate;
use crate::core::scheduling::route::{Route, Service};
use crate::core::scheduling::selection::{Demand, Standing, Unrouted, choose, fit};
use crate::core::session::sessions::MOST_KEPT;
use crate::messages::ids::{BackendId, Generation, JobId, SessionId};
use crate::messages::jobs::{Evidence, Failure, Outcome, Ticket};
use crate::messages::wire::ErrorCode;

/// How many further backends a job may try after the first.
const MORE_TRIES: usize = 2;
/// How long a job waits for the slot of a cancelled one.
const WAIT: Duration = Duration::from_secs(2);
/// Bytes of a stream that count as one token. An event with one token has at least 150 bytes, so this estimate is rather
/// too high.
const STREAMED_TOKEN: u64 = 64;

impl<W: Work> Router<W> {
    /// A job arrives on a connection. If it is not accepted, its work is dropped, and it causes no effect.
    pub(crate) fn submit(&mut self, now: Instant, generation: Generation, job: NewJob, work: W) -> Submitted {
        let session = match self.session_for(generation, job.id) {
            Ok(session) => session,
            Err(answer) => return answer,
        };
        if self.connections.get(&generation).is_none_or(|connection| connection.announced.is_none()) {
            return Submitted::Refused(Refusal::NotOffered);
        }
        if self.drain != Drain::No {
            return Submitted::Refused(Refusal::Stopping);
        }
        if self.paused {
            return Submitted::Refused(Refusal::Paused);
        }
        let (estimate, prefixes) = self.read(&job, &work);
        let (id, timer) = (job.id, job.deadline.min(job.received + WAIT));
        let NewJob { model, endpoint, received, deadline, .. } = job;
        let state = JobState {
            work,
            model: model.clone(),
            endpoint,
            price: self.catalog.model(&model).map(Model::price),
            received,
            deadline,
            timer,
            phase: Phase::Waiting,
            estimate,
            prefixes,
            token: None,
            tried: Vec::new(),
            suspects: Vec::new(),
            reservation: None,
        };
        let ticket = match self.ledger.admit(id, session, state) {
            Ok(ticket) => ticket,
            Err(refused) => return refused.into(),
        };
        let first_effect = self.effects.len();
        let waits = match self.place(now, ticket) {
            Ok(_) => false,
            Err(Refusal::NoSlot(Unrouted::AllFull)) if self.slot_is_coming(now, ticket) => true,
            Err(refusal) => {
                self.ledger.end(ticket);
                return Submitted::Refused(refusal);
            }
        };
        if waits {
            self.timers.insert((timer, ticket));
            self.wait_queue.push_back(ticket);
        }
        self.effects.insert(first_effect, Effect::Event(RouterEvent::Accepted { job: id, model }));
        self.schedule(now);
        Submitted::Accepted
    }

    /// A job with a readable id and an error in another field arrives on a connection.
    pub(crate) fn submit_malformed(&self, generation: Generation, job: JobId, why: &'static str) -> Submitted {
        self.session_for(generation, job).err().unwrap_or(Submitted::Refused(Refusal::Malformed(why)))
    }

    /// A job failed on a backend before the first response byte. The driver has put the request back into its work.
    pub(crate) fn failed(&mut self, now: Instant, ticket: Ticket, failure: Failure) {
        let Some(state) = self.ledger.state(ticket).filter(|state| state.phase == Phase::Running) else { return };
        let token = state.token.take();
        let Some(backend) = self.ledger.unplace(ticket) else { return };
        self.backends.on_end(&backend, now);
        let Some(state) = self.ledger.state(ticket) else { return };
        state.tried.push(backend.clone());
        match failure.evidence {
            Evidence::Overload | Evidence::Crash => {
                let suspect = Suspect { backend: backend.clone(), token, evidence: failure.evidence };
                state.suspects.push(suspect);
            }
            Evidence::Backend => self.report_verdicts(now, [(backend.clone(), token, Verdict::Fault)]),
            Evidence::Nothing => self.report_verdicts(now, [(backend.clone(), token, Verdict::Neutral)]),
        }
        if failure.probe {
            self.effects.push_back(Effect::Probe(backend));
        }
        self.retry(now, ticket, failure);
        self.serve_queues(now);
        self.schedule(now);
    }

    /// Retries a failed job on another backend. If all others are full and the job's backend was lost, the job waits for a
    /// slot until its deadline, because it was accepted and no other agent can take it. If the backend refused it, it ends
    /// with that refusal, which may contain when to retry.
    fn retry(&mut self, now: Instant, ticket: Ticket, failure: Failure) {
        let Some(state) = self.ledger.state(ticket) else { return };
        let is_lost = matches!(failure.evidence, Evidence::Backend | Evidence::Crash);
        let may_go_on = state.tried.len() <= MORE_TRIES && !state.breaks_backends() && self.drain != Drain::Ending;
        let from = state.tried.last().cloned();
        match may_go_on.then(|| self.place(now, ticket)) {
            Some(Ok(to)) => {
                if let (Some(job), Some(from)) = (self.job(ticket), from) {
                    self.event(RouterEvent::Moved { job, from, to });
                }
            }
            Some(Err(Refusal::NoSlot(Unrouted::AllFull))) if is_lost => {
                if let Some(state) = self.ledger.state(ticket) {
                    state.phase = Phase::Retrying(failure);
                    self.retry_queue.push_back(ticket);
                }
            }
            Some(Err(_)) | None => self.fail(ticket, FailCause::Backend),
        }
    }

    /// Starts jobs from the queues that have a slot now, retries first.
    pub(super) fn serve_queues(&mut self, now: Instant) {
        for ticket in std::mem::take(&mut self.retry_queue) {
            if let Some(Phase::Retrying(failure)) = self.ledger.get(ticket).map(|entry| entry.state.phase) {
                self.retry(now, ticket, failure);
            }
        }
        for ticket in std::mem::take(&mut self.wait_queue) {
            let waits = self.ledger.get(ticket).is_some_and(|entry| entry.state.phase == Phase::Waiting);
            if waits && self.place(now, ticket).is_err() {
                self.wait_queue.push_back(ticket);
            }
        }
        self.report_running();
    }

    /// The timer of a job that is not ending has fired.
    pub(super) fn timer_fired(&mut self, now: Instant, ticket: Ticket) {
        let Some(entry) = self.ledger.get(ticket) else { return };
        if now >= entry.state.deadline {
            return self.fail(ticket, FailCause::Deadline);
        }
        // It waited for its first slot. The error reports the current obstacle.
        if let Err(refusal) = self.place(now, ticket) {
            self.fail(ticket, FailCause::Refused(refusal));
        }
    }

    /// The session of a new job. Otherwise the job gets no answer, because it is from a connection that has ended, or because
    /// an answer would end the job that has the id; or its connection takes no more jobs, or too many are kept.
    fn session_for(&self, generation: Generation, job: JobId) -> Result<SessionId, Submitted> {
        let id = self.session_of(generation).ok_or(Submitted::Stale)?;
        let session = self.sessions.get(&id).ok_or(Submitted::Stale)?;
        if self.ledger.contains(job, generation.coordinator) {
            return Err(Submitted::AlreadyRuns);
        }
        if session.has_ended(job) {
            return Err(Submitted::AlreadyEnded);
        }
        if self.connections.get(&generation).is_none_or(|connection| connection.role != Role::Current) {
            return Err(Submitted::Refused(Refusal::OldConnection));
        }
        if session.grant.is_some() && self.holds_for(generation.coordinator, MOST_KEPT) {
            return Err(Submitted::Refused(Refusal::AgentFull));
        }
        Ok(id)
    }

    /// Reads the size and the conversation of a request, if a decision depends on them.
    fn read(&self, job: &NewJob, work: &W) -> (Estimate, PrefixHashes) {
        let routes = self.catalog.model(&job.model).map_or(&[][..], |model| &model.routes);
        let has_choice = routes.len() > 1;
        let outline = if has_choice || self.budget.is_some() { work.outline() } else { None };
        let Some(outline) = outline else { return Default::default() };
        let window = routes.first().and_then(|route| route.context_window);
        let prompt = if has_choice { outline.prompt } else { &[] };
        (outline.estimate(job.endpoint, window), self.affinity.prefixes(&job.model, prompt))
    }

    /// Whether a cancelled job still uses a slot of the job's model, which will be free soon.
    fn slot_is_coming(&self, now: Instant, ticket: Ticket) -> bool {
        let Some(state) = self.ledger.get(ticket).map(|entry| &entry.state) else { return false };
        let routes = self.catalog.model(&state.model).into_iter().flat_map(|model| &model.routes);
        let mut serving = routes.filter(|route| route.serves(state.endpoint).is_some());
        serving.any(|route| self.backends.lingers(&route.backend, now))
    }

    /// Gives a job a slot and dispatches it.
    fn place(&mut self, now: Instant, ticket: Ticket) -> Result<BackendId, Refusal> {
        let (Route { backend, limit, .. }, service, may_retry) = self.choose(now, ticket)?;
        self.ledger.place(ticket, &backend, limit).map_err(|_| Refusal::NoSlot(Unrouted::AllFull))?;
        if !self.reserve(now, ticket) {
            self.ledger.unplace(ticket);
            return Err(Refusal::BudgetSpent);
        }
        let token = self.backends.begin(&backend, now);
        let job = self.job(ticket);
        if let Some(state) = self.ledger.state(ticket) {
            (state.token, state.phase) = (token, Phase::Running);
            self.timers.remove(&(state.timer, ticket));
            state.timer = state.deadline;
            self.timers.insert((state.timer, ticket));
        }
        if let Some(job) = job {
            self.event(RouterEvent::Started { job, backend: backend.clone() });
        }
        self.effects.push_back(Effect::Dispatch { ticket, backend: backend.clone(), service, may_retry });
        Ok(backend)
    }

    /// Chooses a route for a job, how it serves the job, and whether another route could retry it.
    fn choose(&self, now: Instant, ticket: Ticket) -> Result<(Route, Service, bool), Refusal> {
        let state = self.ledger.get(ticket).map(|entry| &entry.state).ok_or(Refusal::NotServed)?;
        let model = self.catalog.model(&state.model).ok_or(Refusal::NotServed)?;
        let is_first = state.tried.is_empty();
        let sticky = self.affinity.backend(&state.prefixes, now).filter(|_| is_first);
        let demand =
            Demand { endpoint: state.endpoint, context: state.estimate.context(), sticky, tried: &state.tried };
        let choice = choose(&model.routes, &demand, |backend| self.standing(now, backend))?;
        let mut others = fit(&model.routes, &demand).filter(|other| other.route.backend != choice.route.backend);
        let may_retry = state.tried.len() < MORE_TRIES && others.next().is_some();
        Ok((choice.route.clone(), choice.service, may_retry))
    }

    /// The current state of a backend. `None` while it has no workers.
    fn standing(&self, now: Instant, backend: &BackendId) -> Option<Standing> {
        self.ready.get(backend)?;
        self.backends.standing(backend, self.ledger.on_backend(backend), now)
    }

    /// Reserves a job's tokens in the budget, once. False: the budget has no room for them.
    fn reserve(&mut self, now: Instant, ticket: Ticket) -> bool {
        let (Some(budget), Some(state)) = (&mut self.budget, self.ledger.state(ticket)) else { return true };
        if state.reservation.is_none() {
            state.reservation = budget.reserve(state.estimate.prompt, state.estimate.answers(), now).ok();
        }
        state.reservation.is_some()
    }

    /// Releases the tokens that an ended job did not use.
    pub(super) fn settle_budget(&mut self, state: &mut JobState<W>, outcome: &Outcome, now: Instant) {
        if let (Some(budget), Some(reservation)) = (&mut self.budget, state.reservation.take()) {
            let most = budget.share();
            budget.settle(reservation, used(state, outcome, most), now);
        }
    }
}

/// Tokens that a job used. `None`: that is not known, and the reserved number is used. One that was taken away before
/// its answer began counts for `most` at most: its prompt may be longer than any model reads.
fn used<W: Work>(state: &JobState<W>, outcome: &Outcome, most: u64) -> Option<u64> {
    let Estimate { prompt, .. } = state.estimate;
    match (outcome, state.work.progress()) {
        (Outcome::Done { tokens }, _) => Some(tokens.input.saturating_add(tokens.output)).filter(|tokens| *tokens > 0),
        // A backend from which the job was taken before its response began has evaluated at most the prompt.
        (Outcome::Cancelled | Outcome::Failed(Failure { code: ErrorCode::BackendTimeout, .. }), Progress::NotBegun) => {
            Some(prompt.min(most))
        }
        (Outcome::Failed(_), Progress::NotBegun) => Some(0),
        (_, Progress::Streamed(bytes)) => {
            Some(prompt.saturating_add((bytes / STREAMED_TOKEN).min(state.estimate.answers())))
        }
        (_, Progress::Begun) => None,
    }
}
