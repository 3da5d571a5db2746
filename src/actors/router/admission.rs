//! Where a job goes: at first, when a backend fails it before anything of its answer went up, and when it waits for a slot:
//! for one that is about to be free, or one that has failed for any at another backend.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::{Draining, Held, JobRouter};
use crate::actors::envelopes::{Admission, Dispatch, RunDiscovery, TryElsewhere};
use crate::actors::relay::{self, Fault};
use crate::core::scheduling::affinity::Beginnings;
use crate::core::scheduling::breaker::Verdict;
use crate::core::scheduling::estimate::{Estimate, Outline};
use crate::core::scheduling::ledger::Refused;
use crate::core::scheduling::route::{Route, Service};
use crate::core::scheduling::selection::{Demand, Standing, Unrouted, choose, fit};
use crate::messages::ids::BackendId;
use crate::messages::jobs::{Job, Ticket};
use crate::messages::wire::{ErrorCode, FromAgent, JobError, MalformedJob, Tokens};
use crate::telemetry::Event;
use crate::transport::lease::{JobGrip, JobLease};
use crate::transport::uplink::Uplink;

/// How many backends a job may try after the first.
const MORE_TRIES: usize = 2;
/// How long a job waits for the slot of one that was cancelled.
const WAIT: Duration = Duration::from_secs(2);

/// Why a job has no slot: the code on the wire and the reason for people.
pub(super) struct Refusal(pub(super) ErrorCode, pub(super) &'static str);

/// What became of a job that came.
pub(super) enum Taken {
    /// It runs, or waits to.
    Admitted,
    /// It runs already.
    RunsAlready,
}

/// A job that has no slot yet.
pub(super) struct Arrival {
    pub(super) job: Job,
    pub(super) uplink: Uplink,
    /// What its request tells, read once.
    estimate: Estimate,
    beginnings: Beginnings,
}

impl Arrival {
    /// How long it waits for a slot.
    pub(super) fn until(&self) -> Instant {
        self.job.received + self.job.deadline.min(WAIT)
    }
}

impl JobRouter {
    /// Admits a job and sends it to its pool, or lets it wait for a slot that a cancelled job still holds.
    pub(super) fn admit(
        &mut self,
        job: Result<Job, MalformedJob>,
        uplink: Uplink,
        ctx: &mut Context<Self>,
    ) -> Result<Taken, Refusal> {
        // Asked before anything that is answered: an answer would end the job that runs.
        let id = job.as_ref().map_or_else(|malformed| malformed.job_id, |job| job.id);
        if self.ledger.contains(id) || self.waiting.iter().any(|waiting| waiting.job.id == id) {
            return Ok(Taken::RunsAlready);
        }
        let job = job.map_err(|malformed| Refusal(ErrorCode::Internal, malformed.why))?;
        if self.announced.is_none() {
            return Err(Refusal(ErrorCode::ModelNotLoaded, "no model has been offered yet"));
        }
        if self.draining != Draining::No {
            return Err(Refusal(ErrorCode::OutOfCapacity, "the agent is stopping"));
        }
        let (estimate, beginnings) = self.read(&job);
        let arrival = Arrival { job, uplink, estimate, beginnings };
        let refused = match self.start(&arrival, ctx) {
            Ok(()) => return Ok(Taken::Admitted),
            Err(refused) => refused,
        };
        let full = self.waiting.len() >= self.setup.limits.max_concurrent_total as usize;
        if refused.0 != ErrorCode::OutOfCapacity || full || !self.slot_is_coming(&arrival.job) {
            return Err(refused);
        }
        self.wake_by(arrival.until().into_std(), ctx);
        self.waiting.push(arrival);
        Ok(Taken::Admitted)
    }

    /// Starts what waited and has a slot now, what a backend has given up first; ends what waited long enough.
    pub(super) fn serve_waiting(&mut self, ctx: &mut Context<Self>) {
        for mut stranded in std::mem::take(&mut self.stranded) {
            if stranded.job.is_late(Instant::now()) {
                stranded.fault = Fault::late();
            }
            self.try_elsewhere(stranded, ctx);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match self.start(&waiting, ctx) {
                Ok(()) => {}
                // Told to stop, the agent finishes what it has, and that is what it took before.
                Err(_) if Instant::now() < waiting.until() && !self.draining_for_good() => self.waiting.push(waiting),
                Err(Refusal(error_code, cause)) => {
                    let job = waiting.job.id;
                    self.setup.events.emit(Event::JobRefused { job, code: error_code, cause });
                    self.record(waiting.job.received.elapsed(), Tokens::default(), Some(error_code));
                    let error = JobError { job_id: job, error_code, message: cause.into(), tokens_emitted: 0 };
                    // Where the connection is gone, nobody waits for it.
                    let _ = waiting.uplink.control(&FromAgent::JobError(error));
                }
            }
        }
        self.tell_if_draining();
    }

    /// What a request tells of its size and its conversation. It is read only where that matters.
    fn read(&self, job: &Job) -> (Estimate, Beginnings) {
        let routes = self.catalog.model(&job.model).map_or(&[][..], |model| &model.routes);
        let has_choice = routes.len() > 1;
        let outline = (has_choice || self.budget.is_some()).then(|| Outline::of(&job.request, &job.members).ok());
        let Some(outline) = outline.flatten() else { return Default::default() };
        let window = routes.first().and_then(|route| route.context_window);
        let prompt = if has_choice { outline.prompt } else { &[] };
        (outline.estimate(job.endpoint, window), self.affinity.beginnings(&job.model, prompt))
    }

    fn slot_is_coming(&self, job: &Job) -> bool {
        let now = Instant::now().into_std();
        let routes = self.catalog.model(&job.model).into_iter().flat_map(|model| &model.routes);
        routes.filter(|route| route.serves(job.endpoint).is_some()).any(|route| self.fleet.lingers(&route.backend, now))
    }

    /// Gives a job its slot and sends it there.
    fn start(&mut self, arrival: &Arrival, ctx: &mut Context<Self>) -> Result<(), Refusal> {
        let Arrival { job, uplink, estimate, beginnings } = arrival;
        if self.draining_for_good() {
            return Err(Refusal(ErrorCode::OutOfCapacity, "the agent is stopping"));
        }
        if job.is_late(Instant::now()) {
            return Err(Refusal(ErrorCode::BackendTimeout, "the deadline passed before a slot was free"));
        }
        let now = Instant::now().into_std();
        let model = self.catalog.model(&job.model);
        let model = model.ok_or(Refusal(ErrorCode::ModelNotLoaded, "no healthy backend serves this model"))?;
        let demand = Demand {
            endpoint: job.endpoint,
            context: estimate.context(),
            sticky: self.affinity.backend(beginnings, now),
            tried: &[],
        };
        let choice = choose(&model.routes, &demand, |backend| self.standing(backend)).map_err(Refusal::from)?;
        let (route, service, context) = (choice.route.clone(), choice.service, demand.context);
        let (grip, lease) = JobGrip::new();
        let held = Held {
            grip,
            uplink: uplink.clone(),
            received: job.received,
            pass: None,
            tried: Vec::new(),
            reservation: None,
            beginnings: beginnings.clone(),
            context,
        };
        let admitted = self.ledger.admit(job.id, uplink.generation(), &route.backend, route.limit, |_| held);
        let ticket = match admitted {
            Ok(entry) => entry.ticket,
            // Nobody is refused: `admit` has looked for it.
            Err(Refused::Duplicate) => return Ok(()),
            Err(Refused::AgentFull) => return Err(Refusal(ErrorCode::OutOfCapacity, "every slot is taken")),
            Err(Refused::BackendFull) => return Err(Unrouted::AllFull.into()),
        };
        if let Some(budget) = &mut self.budget {
            let Ok(reservation) = budget.reserve(estimate.total(), now) else {
                // Nobody has the lease yet: what is dropped here was never worked.
                self.ledger.end(ticket);
                return Err(Refusal(ErrorCode::OutOfCapacity, "the token budget of this minute is spent"));
            };
            if let Some(held) = self.ledger.grip(ticket) {
                held.reservation = Some(reservation);
            }
        }
        let event = Event::JobAdmitted { job: job.id, model: job.model.clone(), backend: route.backend.clone() };
        self.setup.events.emit(event);
        self.dispatch(ticket, &route, service, job.clone(), lease, uplink.clone(), ctx);
        Ok(())
    }

    /// Sends a job that is in the ledger at the route's backend to its pool.
    #[expect(clippy::too_many_arguments, reason = "what a dispatch is made of")]
    fn dispatch(
        &mut self,
        ticket: Ticket,
        route: &Route,
        service: Service,
        job: Job,
        lease: JobLease,
        uplink: Uplink,
        ctx: &Context<Self>,
    ) {
        let pass = self.fleet.begin(&route.backend, Instant::now().into_std());
        let Some(held) = self.ledger.grip(ticket) else { return };
        held.pass = pass;
        // Who has no other place to go is spared the copy of its request.
        let demand = Demand { endpoint: job.endpoint, context: held.context, sticky: None, tried: &held.tried };
        let others = self
            .catalog
            .model(&job.model)
            .is_some_and(|model| fit(&model.routes, &demand).any(|choice| choice.route.backend != route.backend));
        let elsewhere = (held.tried.len() < MORE_TRIES && others).then(|| ctx.address().recipient());
        let (backend, received, ledger) = (route.backend.clone(), job.received, ctx.address().recipient());
        let admission = Admission { ticket, backend, received, ledger };
        if let Some(pool) = self.pools.get(&route.backend) {
            pool.do_send(Dispatch { job, service, elsewhere, lease, uplink, admission });
        }
    }

    /// How a backend stands now. `None` while its pool is being set up.
    fn standing(&self, backend: &BackendId) -> Option<Standing> {
        self.pools.get(backend)?;
        self.fleet.standing(backend, self.ledger.on_backend(backend), Instant::now().into_std())
    }

    /// Sends a job that a backend has failed to another one. Where these are only full, a job whose backend was lost waits
    /// for a slot as long as its deadline allows: it was accepted, and nobody else can take it. One that was refused ends with
    /// that, which tells its client when to come back.
    fn try_elsewhere(&mut self, failed: TryElsewhere, ctx: &mut Context<Self>) {
        let ticket = failed.admission.ticket;
        // It was cancelled meanwhile, or somebody else has ended it.
        if self.ledger.grip(ticket).is_none() || !failed.lease.is_running() {
            return;
        }
        let may_go_on = !self.draining_for_good() && !failed.job.is_late(Instant::now());
        let next = if may_go_on { self.move_on(ticket, &failed.job) } else { Err(Unrouted::AllTried) };
        if next == Err(Unrouted::AllFull) && failed.fault.is_by_connection() {
            self.wake_by(failed.job.until().into_std(), ctx);
            self.stranded.push(failed);
            return;
        }
        let TryElsewhere { job, lease, uplink, admission, fault } = failed;
        match next {
            Ok((route, service)) => {
                let from = admission.backend;
                self.fleet.on_end(&from, Instant::now().into_std());
                self.setup.events.emit(Event::JobMoved { job: job.id, from, to: route.backend.clone() });
                self.dispatch(ticket, &route, service, job, lease, uplink, ctx);
            }
            Err(_) => {
                let give_up = async move { relay::give_up(job.id, &lease, &uplink, admission, fault).await };
                ctx.spawn(give_up.into_actor(self));
            }
        }
    }

    /// Finds another backend for a job that one has failed.
    fn move_on(&mut self, ticket: Ticket, job: &Job) -> Result<(Route, Service), Unrouted> {
        let held = self.ledger.grip(ticket).ok_or(Unrouted::AllTried)?;
        let (tried, context) = (held.tried.clone(), held.context);
        let demand = Demand { endpoint: job.endpoint, context, sticky: None, tried: &tried };
        let routes = &self.catalog.model(&job.model).ok_or(Unrouted::NoneServes)?.routes;
        let choice = choose(routes, &demand, |backend| self.standing(backend))?;
        let (route, service) = (choice.route.clone(), choice.service);
        self.ledger.move_to(ticket, &route.backend, route.limit).map_err(|_| Unrouted::AllFull)?;
        Ok((route, service))
    }
}

impl Handler<TryElsewhere> for JobRouter {
    type Result = ();

    fn handle(&mut self, failed: TryElsewhere, ctx: &mut Self::Context) {
        let (ticket, from) = (failed.admission.ticket, failed.admission.backend.clone());
        // It was cancelled meanwhile, or somebody else has ended it.
        let Some(held) = self.ledger.grip(ticket).filter(|_| failed.lease.is_running()) else { return };
        held.tried.push(from.clone());
        let pass = held.pass.take();
        self.judge(&from, pass, Verdict::of(failed.fault.blame()), ctx);
        if failed.fault.is_by_connection() {
            self.setup.discovery.do_send(RunDiscovery { backend: from });
        }
        self.try_elsewhere(failed, ctx);
        self.serve_waiting(ctx);
    }
}

impl From<Unrouted> for Refusal {
    fn from(unrouted: Unrouted) -> Self {
        match unrouted {
            Unrouted::NoneServes => {
                Self(ErrorCode::Internal, "the model's backend does not have the API path that the job asks for")
            }
            Unrouted::NoneReady => Self(ErrorCode::ModelNotLoaded, "the model's backend is being set up"),
            Unrouted::AllTried | Unrouted::AllBroken => {
                Self(ErrorCode::ModelNotLoaded, "every backend of the model fails its jobs at the moment")
            }
            Unrouted::AllFull => Self(ErrorCode::OutOfCapacity, "every slot of the model's backend is taken"),
        }
    }
}
