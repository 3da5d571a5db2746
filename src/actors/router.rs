//! The router: admits, routes, cancels and refuses jobs. It alone has the ledger and the catalog, and it never waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use tokio::time::Instant;

use super::envelopes::{
    Admission, CancelJob, ConnectionDown, ConnectionUp, Dispatch, EndJobs, PoolLost, RoutesChanged, RunDiscovery,
    SampleLoad, StillRunning, Stop, StopAdmitting, SubmitJob,
};
use super::guard::Guard;
use super::relay::{self, Fault};
use crate::messages::ids::BackendId;
use crate::messages::jobs::{Job, JobEnded, Outcome};
use crate::messages::wire::{
    Capabilities, ErrorCode, FromAgent, Heartbeat, JobError, Limits, MalformedJob, Metadata, Tokens,
};
use crate::protocol::catalog::Catalog;
use crate::protocol::ledger::{Entry, Ledger, Refused};
use crate::protocol::load::{Ended, LoadWindow};
use crate::protocol::route::Route;
use crate::telemetry::{Event, Events};
use crate::transport::lease::JobGrip;
use crate::transport::uplink::Uplink;

/// What the router is told once.
pub(super) struct RouterSetup {
    pub(super) limits: Limits,
    /// When capabilities are sent even though not every backend has been looked at.
    pub(super) settle_at: Instant,
    pub(super) events: Events,
    pub(super) discovery: Recipient<RunDiscovery>,
    pub(super) supervisor: Recipient<StillRunning>,
}

/// Admits and routes the jobs of the current connection.
pub(super) struct JobRouter {
    setup: RouterSetup,
    ledger: Ledger<Held>,
    catalog: Arc<Catalog>,
    pools: HashMap<BackendId, Recipient<Dispatch>>,
    /// Every backend was looked at once, or there was time enough.
    settled: bool,
    connection: Option<Uplink>,
    /// What the current connection was told last.
    announced: Option<Capabilities>,
    load: LoadWindow,
    draining: bool,
    _guard: Guard,
}

/// What the ledger holds of a job. Dropping it cancels the job.
struct Held {
    grip: JobGrip,
    uplink: Uplink,
    received: Instant,
}

/// Why a job has no slot: the code on the wire and the reason for people.
struct Refusal(ErrorCode, &'static str);

impl JobRouter {
    pub(super) fn new(setup: RouterSetup, guard: Guard) -> Self {
        Self {
            ledger: Ledger::new(setup.limits.max_concurrent_total),
            setup,
            catalog: Arc::default(),
            pools: HashMap::new(),
            settled: false,
            connection: None,
            announced: None,
            load: LoadWindow::default(),
            draining: false,
            _guard: guard,
        }
    }

    /// Admits a job and sends it to its pool. `Ok(false)` is a job that runs already.
    fn admit(
        &mut self,
        job: Result<Job, MalformedJob>,
        uplink: Uplink,
        reply: Recipient<JobEnded>,
    ) -> Result<bool, Refusal> {
        // Asked before anything that is answered: an answer would end the job that runs.
        if self.ledger.contains(job.as_ref().map_or_else(|malformed| malformed.job_id, |job| job.id)) {
            return Ok(false);
        }
        let job = job.map_err(|malformed| Refusal(ErrorCode::Internal, malformed.why))?;
        if self.announced.is_none() {
            return Err(Refusal(ErrorCode::ModelNotLoaded, "no model has been offered yet"));
        }
        if self.draining {
            return Err(Refusal(ErrorCode::OutOfCapacity, "the agent is stopping"));
        }
        let (route, pool) = self.destination(&job)?;
        let budget = self.setup.limits.max_tokens_per_minute;
        if budget.is_some_and(|budget| self.load.tokens_last_minute(job.received.into_std()) >= budget) {
            return Err(Refusal(ErrorCode::OutOfCapacity, "the token budget of this minute is spent"));
        }
        let (grip, lease) = JobGrip::new();
        let held = Held { grip, uplink: uplink.clone(), received: job.received };
        let (id, generation) = (job.id, uplink.generation());
        let admitted = self.ledger.admit(id, generation, &route.backend, route.limit, |_| held);
        let ticket = match admitted {
            Ok(entry) => entry.ticket,
            Err(Refused::Duplicate) => return Ok(false),
            Err(Refused::AgentFull) => return Err(Refusal(ErrorCode::OutOfCapacity, "every slot is taken")),
            Err(Refused::BackendFull) => {
                return Err(Refusal(ErrorCode::OutOfCapacity, "every slot of the model's backend is taken"));
            }
        };
        let (model, backend) = (job.model.clone(), route.backend);
        let admission = Admission { ticket, backend: backend.clone(), received: job.received, ledger: reply };
        pool.do_send(Dispatch { job, lease, uplink, admission });
        self.setup.events.emit(Event::JobAdmitted { job: id, model, backend });
        Ok(true)
    }

    fn destination(&self, job: &Job) -> Result<(Route, Recipient<Dispatch>), Refusal> {
        let route = self.catalog.model(&job.model).and_then(|model| model.routes.first());
        let route = route.ok_or(Refusal(ErrorCode::ModelNotLoaded, "no healthy backend serves this model"))?;
        if !route.endpoints.contains(job.endpoint) {
            let why = "the model's backend does not have the API path that the job asks for";
            return Err(Refusal(ErrorCode::Internal, why));
        }
        let pool = self.pools.get(&route.backend);
        let pool = pool.ok_or(Refusal(ErrorCode::ModelNotLoaded, "the model's backend is being set up"))?;
        Ok((route.clone(), pool.clone()))
    }

    /// Tells the coordinator what is on offer, if it does not know yet.
    fn announce(&mut self, ctx: &mut Context<Self>) {
        let Some(uplink) = &self.connection else { return };
        let now = Instant::now();
        if !self.settled && now < self.setup.settle_at {
            ctx.run_later(self.setup.settle_at - now, |router, ctx| router.announce(ctx));
            return;
        }
        self.settled = true;
        let capabilities = Capabilities {
            models: self.catalog.offers().cloned().collect(),
            limits: self.setup.limits,
            metadata: Metadata { agent_version: env!("CARGO_PKG_VERSION").to_owned() },
        };
        let capabilities = capabilities.as_agreed(uplink.agreed());
        if self.announced.as_ref() == Some(&capabilities) {
            return;
        }
        let (generation, models) = (uplink.generation(), capabilities.models.len());
        if uplink.control(&FromAgent::Capabilities(capabilities.clone())).is_ok() {
            self.announced = Some(capabilities);
            self.setup.events.emit(Event::CapabilitiesSent { generation, models });
        }
    }

    /// Jobs that were taken out of the ledger to be dropped: nothing more is said of them.
    fn cancelled(&self, entries: impl IntoIterator<Item = Entry<Held>>) {
        for entry in entries {
            self.report(&entry, Outcome::Cancelled, entry.grip.received.elapsed());
        }
    }

    /// Stops jobs that run and ends them with an error. They leave the ledger as that is written, like any other; those
    /// whose last frame is queued already keep it.
    fn fail(&self, whose: impl Fn(&Entry<Held>) -> bool, why: &'static str, ctx: &Context<Self>) {
        for entry in self.ledger.iter().filter(|entry| whose(entry)) {
            let Held { grip, uplink, received } = &entry.grip;
            let Some(lease) = grip.end() else { continue };
            let admission = Admission {
                ticket: entry.ticket,
                backend: entry.backend.clone(),
                received: *received,
                ledger: ctx.address().recipient(),
            };
            relay::fail(entry.job, &lease, uplink, admission, None, Fault::internal(why));
        }
    }

    fn report(&self, entry: &Entry<Held>, outcome: Outcome, duration: Duration) {
        let (job, backend) = (entry.job, entry.backend.clone());
        self.setup.events.emit(Event::JobEnded { job, backend, outcome, duration });
    }

    fn record(&mut self, duration: Duration, tokens: Tokens, error: Option<ErrorCode>) {
        let ended = Ended { duration, tokens, error };
        self.load.record(Instant::now().into_std(), SystemTime::now(), &ended);
    }

    fn tell_if_draining(&self) {
        if self.draining {
            self.setup.supervisor.do_send(StillRunning { in_flight: self.ledger.in_flight() });
        }
    }
}

impl Actor for JobRouter {
    type Context = Context<Self>;
}

impl Handler<ConnectionUp> for JobRouter {
    type Result = ();

    fn handle(&mut self, up: ConnectionUp, ctx: &mut Self::Context) {
        self.connection = Some(up.uplink);
        self.announced = None;
        self.announce(ctx);
    }
}

impl Handler<ConnectionDown> for JobRouter {
    type Result = ();

    fn handle(&mut self, down: ConnectionDown, _: &mut Self::Context) {
        if self.connection.as_ref().is_some_and(|uplink| uplink.generation() == down.generation) {
            self.connection = None;
            self.announced = None;
        }
        let entries = self.ledger.end_generation(down.generation);
        self.cancelled(entries);
        self.tell_if_draining();
    }
}

impl Handler<SubmitJob> for JobRouter {
    type Result = MessageResult<SubmitJob>;

    fn handle(&mut self, submit: SubmitJob, ctx: &mut Self::Context) -> Self::Result {
        let current = self.connection.as_ref().filter(|uplink| uplink.generation() == submit.generation);
        let Some(uplink) = current.cloned() else {
            self.setup.events.emit(Event::StaleDropped { what: "job" });
            return MessageResult(None);
        };
        let job = submit.job.as_ref().map_or_else(|malformed| malformed.job_id, |job| job.id);
        match self.admit(submit.job, uplink, ctx.address().recipient()) {
            Ok(true) => MessageResult(None),
            Ok(false) => {
                self.setup.events.emit(Event::FrameSkipped { cause: format!("job {job} runs already") });
                MessageResult(None)
            }
            Err(Refusal(error_code, cause)) => {
                self.setup.events.emit(Event::JobRefused { job, code: error_code, cause });
                MessageResult(Some(JobError { job_id: job, error_code, message: cause.into(), tokens_emitted: 0 }))
            }
        }
    }
}

impl Handler<CancelJob> for JobRouter {
    type Result = ();

    fn handle(&mut self, cancel: CancelJob, _: &mut Self::Context) {
        // A job that is not known has ended: a cancel that crossed its last frame is no fault.
        let entry = self.ledger.cancel(cancel.job, cancel.generation);
        self.cancelled(entry);
        self.tell_if_draining();
    }
}

impl Handler<JobEnded> for JobRouter {
    type Result = ();

    fn handle(&mut self, ended: JobEnded, _: &mut Self::Context) {
        // Cancelled jobs left the ledger when they were cancelled.
        let Some(entry) = self.ledger.end(ended.ticket) else { return };
        self.report(&entry, ended.outcome.clone(), ended.duration);
        match ended.outcome {
            Outcome::Done { tokens } => self.record(ended.duration, tokens, None),
            Outcome::Failed { code, by_connection } => {
                self.record(ended.duration, Tokens::default(), Some(code));
                if by_connection {
                    self.setup.discovery.do_send(RunDiscovery { backend: ended.backend });
                }
            }
            Outcome::Cancelled => {}
        }
        entry.grip.grip.release();
        self.tell_if_draining();
    }
}

impl Handler<RoutesChanged> for JobRouter {
    type Result = ();

    fn handle(&mut self, routes: RoutesChanged, ctx: &mut Self::Context) {
        self.catalog = routes.catalog;
        self.pools = routes.pools;
        self.settled |= routes.complete;
        self.announce(ctx);
    }
}

impl Handler<PoolLost> for JobRouter {
    type Result = ();

    fn handle(&mut self, lost: PoolLost, ctx: &mut Self::Context) {
        self.fail(|entry| entry.backend == lost.backend, "the agent failed while working the job", ctx);
    }
}

impl Handler<SampleLoad> for JobRouter {
    type Result = MessageResult<SampleLoad>;

    fn handle(&mut self, _: SampleLoad, _: &mut Self::Context) -> Self::Result {
        let heartbeat: Heartbeat = self.load.heartbeat(Instant::now().into_std(), self.ledger.in_flight() as u64);
        MessageResult(heartbeat)
    }
}

impl Handler<StopAdmitting> for JobRouter {
    type Result = ();

    fn handle(&mut self, _: StopAdmitting, _: &mut Self::Context) {
        self.draining = true;
        self.tell_if_draining();
    }
}

impl Handler<EndJobs> for JobRouter {
    type Result = ();

    fn handle(&mut self, _: EndJobs, ctx: &mut Self::Context) {
        self.fail(|_| true, "the agent is stopping", ctx);
    }
}

impl Handler<Stop> for JobRouter {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
