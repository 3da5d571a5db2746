//! Where a job goes: at first, when a backend fails it before anything of its answer went up, and when it waits for a slot:
//! for one that is about to be free, or one that has failed for any at another backend.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::{Draining, Held, JobRouter};
use crate::actors::envelopes::{Admission, Dispatch, RunDiscovery, TryElsewhere};
use crate::actors::relay::{self, Fault};
use crate::messages::ids::BackendId;
use crate::messages::jobs::{Job, Ticket};
use crate::messages::wire::{ErrorCode, FromAgent, JobError, MalformedJob};
use crate::protocol::affinity::Beginnings;
use crate::protocol::breaker::Verdict;
use crate::protocol::estimate::Outline;
use crate::protocol::ledger::Refused;
use crate::protocol::route::{Route, Service};
use crate::protocol::selection::{Demand, Standing, Unrouted, choose};
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

/// A job that waits for a slot.
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) uplink: Uplink,
    pub(super) until: Instant,
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
        let refused = match self.start(&job, &uplink, ctx) {
            Ok(()) => return Ok(Taken::Admitted),
            Err(refused) => refused,
        };
        let max_waiting = self.setup.limits.max_concurrent_total as usize;
        if refused.0 != ErrorCode::OutOfCapacity || self.waiting.len() >= max_waiting || !self.slot_is_coming(&job) {
            return Err(refused);
        }
        let until = (job.received + job.deadline.min(WAIT)).min(Instant::now() + WAIT);
        self.waiting.push(Waiting { job, uplink, until });
        self.wake_by(until.into_std(), ctx);
        Ok(Taken::Admitted)
    }

    /// Whether a job waits for a slot.
    pub(super) fn anyone_waits(&self) -> bool {
        !self.stranded.is_empty() || !self.waiting.is_empty()
    }

    /// Starts what waited and has a slot now, what was given up by a backend first; refuses what waited long enough.
    pub(super) fn serve_waiting(&mut self, ctx: &mut Context<Self>) {
        for stranded in std::mem::take(&mut self.stranded) {
            self.try_elsewhere(stranded, ctx);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match self.start(&waiting.job, &waiting.uplink, ctx) {
                Ok(()) => {}
                Err(_) if Instant::now() < waiting.until && self.draining == Draining::No => self.waiting.push(waiting),
                Err(Refusal(error_code, cause)) => {
                    let job = waiting.job.id;
                    self.setup.events.emit(Event::JobRefused { job, code: error_code, cause });
                    let error = JobError { job_id: job, error_code, message: cause.into(), tokens_emitted: 0 };
                    // Where the connection is gone, nobody waits for it.
                    let _ = waiting.uplink.control(&FromAgent::JobError(error));
                }
            }
        }
    }

    fn slot_is_coming(&self, job: &Job) -> bool {
        let now = Instant::now().into_std();
        let routes = self.catalog.model(&job.model).into_iter().flat_map(|model| &model.routes);
        routes.filter(|route| route.serves(job.endpoint).is_some()).any(|route| self.fleet.lingers(&route.backend, now))
    }

    /// Gives a job its slot and sends it there.
    fn start(&mut self, job: &Job, uplink: &Uplink, ctx: &mut Context<Self>) -> Result<(), Refusal> {
        let now = Instant::now().into_std();
        let model = self.catalog.model(&job.model);
        let model = model.ok_or(Refusal(ErrorCode::ModelNotLoaded, "no healthy backend serves this model"))?;
        let has_choice = model.routes.len() > 1;
        // A request is walked only where what is found matters.
        let outline = (has_choice || self.budget.is_some()).then(|| Outline::of(&job.request).ok()).flatten();
        let window = model.routes.first().and_then(|route| route.context_window);
        let estimate = outline.map(|outline| outline.estimate(job.endpoint, window));
        let beginnings = match &outline {
            Some(outline) if has_choice => self.affinity.beginnings(&job.model, outline.prompt),
            _ => Beginnings::default(),
        };
        let demand = Demand {
            endpoint: job.endpoint,
            context: estimate.map_or(0, |estimate| estimate.context()),
            sticky: self.affinity.backend(&beginnings, now),
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
            beginnings,
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
            let Ok(reservation) = budget.reserve(estimate.map_or(0, |estimate| estimate.total()), now) else {
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
        let mut tries = 0;
        if let Some(held) = self.ledger.grip(ticket) {
            held.pass = pass;
            tries = held.tried.len();
        }
        let others = self.catalog.model(&job.model).is_some_and(|model| model.routes.len() > tries + 1);
        let elsewhere = (tries < MORE_TRIES && others).then(|| ctx.address().recipient());
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

    /// Sends a job that a backend has failed to another one. Where these are only full, it waits for a slot as long as its
    /// deadline allows: it was accepted, and nobody else can take it.
    fn try_elsewhere(&mut self, failed: TryElsewhere, ctx: &mut Context<Self>) {
        let until = relay::until(&failed.job);
        let ticket = failed.admission.ticket;
        // It was cancelled meanwhile, or somebody else has ended it.
        if self.ledger.grip(ticket).is_none() || !failed.lease.is_running() {
            return;
        }
        let next = if self.draining_for_good() { Err(Unrouted::AllTried) } else { self.move_on(ticket, &failed.job) };
        if next == Err(Unrouted::AllFull) && Instant::now() < until {
            self.stranded.push(failed);
            return self.wake_by(until.into_std(), ctx);
        }
        let TryElsewhere { job, lease, uplink, admission, fault } = failed;
        let from = admission.backend.clone();
        match next {
            Ok((route, service)) => {
                self.fleet.on_end(&from, Instant::now().into_std());
                self.setup.events.emit(Event::JobMoved { job: job.id, from, to: route.backend.clone() });
                self.dispatch(ticket, &route, service, job, lease, uplink, ctx);
            }
            Err(why) if lease.claim() => {
                let fault = if why == Unrouted::AllFull { Fault::late() } else { fault };
                relay::fail(job.id, &lease, &uplink, admission, None, fault);
            }
            // Somebody else has ended it.
            Err(_) => {}
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
