//! The router's actor: gives the router of the core its inputs, and carries out its effects. It decides nothing, and it
//! never waits.

use std::collections::HashMap;
use std::hash::RandomState;
use std::time::SystemTime;

use actix::prelude::*;
use tokio::time::Instant;

use super::guard::Guard;
use super::messages::{ConnectionUp, Dispatch, GetRouterView, RoutesChanged, TryElsewhere};
use super::routed_job::RoutedJob;
use crate::core::scheduling::router::{Effect, FailCause, NewJob, Router, RouterEvent, RouterSettings, Submitted};
use crate::messages::ids::{BackendId, Generation};
use crate::messages::jobs::{Acknowledged, CancelJob, Job, JobEnded, SubmitJob, SubmitReply, Ticket};
use crate::messages::lifecycle::{ConnectionDown, EndJobs, OfferSession, SetPaused, StillRunning, Stop, StopAdmitting};
use crate::messages::load::{AskLoad, LoadSeen, RunDiscovery, SampleLoad};
use crate::messages::wire::{DrainNotice, FromAgent, JobError, MalformedJob};
use crate::messages::workers::PoolLost;
use crate::relay::Fault;
use crate::relay::outbox::Outbox;
use crate::telemetry::events::{
    self, BreakerOpened, CapabilitiesSent, JobAccepted, JobMoved, JobRefused, JobStarted, StaleDropped,
};
use crate::telemetry::{Event, Events};

/// What the router is made of.
pub(super) struct RouterSetup {
    pub(super) settings: RouterSettings,
    pub(super) events: Events,
    pub(super) discovery: Recipient<RunDiscovery>,
    pub(super) loads: Recipient<AskLoad>,
    pub(super) supervisor: Recipient<StillRunning>,
}

/// Drives the router of the core.
pub(super) struct JobRouter {
    setup: RouterSetup,
    router: Router<RoutedJob>,
    pools: HashMap<BackendId, Recipient<Dispatch>>,
    connections: HashMap<Generation, Outbox>,
    /// The timer for the router's next wake-up.
    timer: Option<SpawnHandle>,
    _guard: Guard,
}

impl JobRouter {
    pub(super) fn new(setup: RouterSetup, guard: Guard) -> Self {
        let router = Router::new(setup.settings, RandomState::new());
        Self { setup, router, pools: HashMap::new(), connections: HashMap::new(), timer: None, _guard: guard }
    }

    /// Carries out what the router wants done.
    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        while let Some(effect) = self.router.next_effect() {
            match effect {
                Effect::Dispatch { ticket, backend, service, may_retry } => {
                    let Some(work) = self.router.work(ticket) else { continue };
                    let Some(pool) = self.pools.get(&backend) else {
                        // A bug: the router places jobs only on backends with workers. The job ends all the same.
                        self.fail(ticket, FailCause::WorkerLost, ctx);
                        continue;
                    };
                    let elsewhere = may_retry.then(|| ctx.address().recipient());
                    let admission = work.admission(ticket, ctx.address().recipient());
                    if let Some(dispatch) = work.dispatch(service, elsewhere, admission) {
                        pool.do_send(dispatch);
                    }
                }
                Effect::Fail { ticket, cause } => self.fail(ticket, cause, ctx),
                Effect::Cancel { work } => drop(work),
                Effect::Release { work } => work.release(),
                Effect::Probe(backend) => self.setup.discovery.do_send(RunDiscovery { backend }),
                Effect::AskLoad(backend) => self.setup.loads.do_send(AskLoad { backend }),
                Effect::Announce { generation, capabilities } => {
                    let models = capabilities.models.len();
                    let sent = self
                        .connections
                        .get(&generation)
                        .map(|outbox| outbox.control(&FromAgent::Capabilities(capabilities)));
                    if let Some(Ok(())) = sent {
                        self.setup.events.emit(CapabilitiesSent { generation, models });
                    }
                }
                Effect::Attach { ticket, generation, offset } => {
                    if let (Some(outbox), Some(work)) = (self.connections.get(&generation), self.router.work(ticket)) {
                        work.attach(outbox, offset);
                    }
                }
                Effect::Close { generation, now } => {
                    let outbox = self.connections.get(&generation);
                    // One that is gone needs no close.
                    let _ =
                        outbox.map(|outbox| if now { outbox.seal_and_close(1000, "") } else { outbox.close(1000, "") });
                }
                Effect::AnnounceDrain { generation, in_flight } => {
                    let notice = DrainNotice { in_flight: in_flight as u64 };
                    // A connection that has ended needs no notice.
                    let _ = self.connections.get(&generation).map(|outbox| outbox.control(&FromAgent::Drain(notice)));
                }
                Effect::StillRunning(in_flight) => self.setup.supervisor.do_send(StillRunning { in_flight }),
                Effect::WakeAt(at) => {
                    let wait = at.saturating_duration_since(Instant::now().into_std());
                    let timer = ctx.run_later(wait, |actor, ctx| {
                        actor.router.tick(Instant::now().into_std());
                        actor.carry_out(ctx);
                    });
                    if let Some(replaced) = self.timer.replace(timer) {
                        ctx.cancel_future(replaced);
                    }
                }
                Effect::Event(event) => self.setup.events.emit(event),
            }
        }
    }

    /// Ends a job with `job_error`, unless its end is on its way already.
    fn fail(&mut self, ticket: Ticket, cause: FailCause, ctx: &mut Context<Self>) {
        let Some(work) = self.router.work(ticket) else { return };
        let admission = work.admission(ticket, ctx.address().recipient());
        let fault = match cause {
            FailCause::Backend => {
                // The backend's error body is sent first, as there is room for it.
                let give_up = work.give_up(admission);
                ctx.spawn(give_up.into_actor(self));
                return;
            }
            FailCause::Refused(refusal) => Fault::refused(refusal),
            FailCause::Deadline => Fault::late(),
            FailCause::Stopping => Fault::stopping(),
            FailCause::WorkerLost => Fault::worker_lost(),
            FailCause::NotKept => return work.end_not_kept(admission),
        };
        work.end(admission, fault);
    }

    /// Submits a received job, or a malformed one with a readable id.
    fn submit(&mut self, job: Result<Job, MalformedJob>, outbox: &Outbox) -> Submitted {
        let generation = outbox.generation();
        let job = match job {
            Ok(job) => job,
            Err(malformed) => return self.router.submit_malformed(generation, malformed.job_id, malformed.why),
        };
        let new = NewJob {
            id: job.id,
            model: job.model.clone(),
            endpoint: job.endpoint,
            received: job.received,
            deadline: job.until(),
        };
        self.router.submit(Instant::now().into_std(), generation, new, RoutedJob::new(job, outbox))
    }
}

impl Actor for JobRouter {
    type Context = Context<Self>;
}

/// A message that is one input of the router.
macro_rules! input {
    ($message:ident, |$actor:ident, $received:ident, $now:ident| $input:expr) => {
        impl Handler<$message> for JobRouter {
            type Result = ();

            fn handle(&mut self, $received: $message, ctx: &mut Self::Context) {
                let ($actor, $now) = (&mut *self, Instant::now().into_std());
                $input;
                self.carry_out(ctx);
            }
        }
    };
}

input!(ConnectionUp, |actor, up, now| {
    let (generation, agreed) = (up.outbox.generation(), up.outbox.agreed());
    actor.connections.insert(generation, up.outbox);
    actor.router.connection_up(now, generation, agreed, up.session);
});
input!(ConnectionDown, |actor, down, now| {
    actor.connections.remove(&down.generation);
    actor.router.connection_down(now, down.generation);
});
input!(CancelJob, |actor, cancel, now| actor.router.cancel(now, cancel.generation, cancel.job));
input!(Acknowledged, |actor, ack, _now| actor.router.acknowledged(ack.generation, ack.job, ack.taken));
input!(JobEnded, |actor, ended, now| {
    if let Some(work) = actor.router.work(ended.ticket) {
        work.forget_request();
    }
    actor.router.ended(now, SystemTime::now(), ended.ticket, ended.outcome, ended.duration);
});
input!(LoadSeen, |actor, seen, now| actor.router.load_report(now, &seen.backend, seen.active_requests, seen.asked));
input!(RoutesChanged, |actor, routes, now| {
    let ready = routes.pools.keys().cloned().collect();
    actor.pools = routes.pools;
    actor.router.routes_changed(now, routes.catalog, ready, routes.complete);
});
input!(PoolLost, |actor, lost, now| {
    actor.pools.remove(&lost.backend);
    actor.router.pool_lost(now, &lost.backend);
});
input!(StopAdmitting, |actor, _stop, now| actor.router.stop_accepting(now));
input!(SetPaused, |actor, paused, now| actor.router.set_paused(now, paused.0));
input!(EndJobs, |actor, _end, now| actor.router.end_jobs(now));
input!(TryElsewhere, |actor, failed, now| {
    // It was cancelled meanwhile, or another actor has ended it.
    if !failed.stream.is_running() {
        return;
    }
    let (ticket, failure) = (failed.admission.ticket, failed.fault.failure());
    if let Some(work) = actor.router.work(ticket) {
        work.take_back(failed.job, failed.fault);
        actor.router.failed(now, ticket, failure);
    }
});

impl Handler<SubmitJob> for JobRouter {
    type Result = MessageResult<SubmitJob>;

    fn handle(&mut self, submit: SubmitJob, ctx: &mut Self::Context) -> Self::Result {
        let job_id = submit.job.as_ref().map_or_else(|malformed| malformed.job_id, |job| job.id);
        let submitted = match self.connections.get(&submit.generation).cloned() {
            Some(outbox) => self.submit(submit.job, &outbox),
            None => Submitted::Stale,
        };
        self.carry_out(ctx);
        MessageResult(match submitted {
            Submitted::Accepted => SubmitReply::Nothing,
            Submitted::AlreadyRuns => SubmitReply::AlreadyRuns,
            Submitted::AlreadyEnded => SubmitReply::AlreadyEnded,
            Submitted::Stale => {
                self.setup.events.emit(StaleDropped { what: "job" });
                SubmitReply::Nothing
            }
            Submitted::Refused(refusal) => {
                self.setup.events.emit(JobRefused { job: job_id, refusal });
                let (error_code, message) = (refusal.code(), refusal.to_string());
                SubmitReply::Refused(JobError { job_id, error_code, message, tokens_emitted: 0 })
            }
        })
    }
}

impl Handler<OfferSession> for JobRouter {
    type Result = MessageResult<OfferSession>;

    fn handle(&mut self, offer: OfferSession, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.router.offer_session(Instant::now().into_std(), offer.generation))
    }
}

impl Handler<GetRouterView> for JobRouter {
    type Result = MessageResult<GetRouterView>;

    fn handle(&mut self, _: GetRouterView, _: &mut Self::Context) -> Self::Result {
        MessageResult(Some(self.router.view(Instant::now().into_std())))
    }
}

impl Handler<SampleLoad> for JobRouter {
    type Result = MessageResult<SampleLoad>;

    fn handle(&mut self, _: SampleLoad, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.router.heartbeat(Instant::now().into_std()))
    }
}

impl Handler<Stop> for JobRouter {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl From<RouterEvent> for Event {
    fn from(event: RouterEvent) -> Self {
        match event {
            RouterEvent::Accepted { job, model } => JobAccepted { job, model }.into(),
            RouterEvent::Started { job, backend } => JobStarted { job, backend }.into(),
            RouterEvent::Moved { job, from, to } => JobMoved { job, from, to }.into(),
            RouterEvent::Ended {
                job,
                coordinator,
                model,
                endpoint,
                backend,
                price,
                outcome,
                cause,
                first_byte,
                duration: total,
            } => events::JobEnded {
                job,
                coordinator,
                model,
                endpoint,
                backend,
                price,
                outcome,
                cause,
                first_byte,
                total,
            }
            .into(),
            RouterEvent::BreakerOpened { backend } => BreakerOpened { backend }.into(),
        }
    }
}
