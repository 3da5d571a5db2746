//! The router: admits, routes, cancels and refuses jobs. It alone has the ledger, the catalog, and what is known of the
//! backends at the moment, and it never waits.

mod admission;
mod offers;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use tokio::time::Instant;

use self::admission::{Arrival, Refusal, Taken};
use super::envelopes::{
    Admission, AskLoad, CancelJob, ConnectionDown, ConnectionUp, Dispatch, EndJobs, LoadSeen, PoolLost, RoutesChanged,
    RunDiscovery, SampleLoad, StillRunning, Stop, StopAdmitting, SubmitJob, TryElsewhere,
};
use super::guard::Guard;
use super::relay::{self, Fault};
use crate::core::scheduling::affinity::{Affinity, Beginnings};
use crate::core::scheduling::backend_states::Fleet;
use crate::core::scheduling::breaker::{Pass, Verdict};
use crate::core::scheduling::budget::{Reservation, TokenBudget};
use crate::core::scheduling::catalog::Catalog;
use crate::core::scheduling::debounce::Damper;
use crate::core::scheduling::ledger::{Entry, Ledger};
use crate::core::scheduling::load::{Ended, LoadWindow};
use crate::messages::ids::BackendId;
use crate::messages::jobs::{JobEnded, Outcome};
use crate::messages::wire::{Capabilities, ErrorCode, Heartbeat, JobError, Limits, Tokens};
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
    pub(super) loads: Recipient<AskLoad>,
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
    /// Spaces what it is told later.
    damper: Damper,
    fleet: Fleet,
    affinity: Affinity,
    budget: Option<TokenBudget>,
    /// Jobs that were taken and wait for a slot that is about to be free.
    waiting: Vec<Arrival>,
    /// Jobs that a backend has failed before anything of their answers went up, and that wait for a slot of another one.
    /// Until then the ledger has them where they were.
    stranded: Vec<TryElsewhere>,
    /// The timer that is set, and for when.
    wake: Option<(std::time::Instant, SpawnHandle)>,
    load: LoadWindow,
    draining: Draining,
    _guard: Guard,
}

/// Whether the agent is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    /// What runs may end.
    Finishing,
    /// What runs is ended.
    Ending,
}

/// What the ledger holds of a job. Dropping it cancels the job.
struct Held {
    grip: JobGrip,
    uplink: Uplink,
    received: Instant,
    /// For the verdict on the backend that works it.
    pass: Option<Pass>,
    /// Backends that have failed it.
    tried: Vec<BackendId>,
    /// Its part of the token budget.
    reservation: Option<Reservation>,
    /// What its prompt begins with, where that may decide who gets the next one.
    beginnings: Beginnings,
    /// Tokens of context that it may need, where that was asked.
    context: u64,
}

impl JobRouter {
    pub(super) fn new(setup: RouterSetup, guard: Guard) -> Self {
        Self {
            ledger: Ledger::new(setup.limits.max_concurrent_total),
            budget: setup.limits.max_tokens_per_minute.map(TokenBudget::new),
            setup,
            catalog: Arc::default(),
            pools: HashMap::new(),
            settled: false,
            connection: None,
            announced: None,
            damper: Damper::default(),
            fleet: Fleet::default(),
            affinity: Affinity::new(RandomState::new()),
            waiting: Vec::new(),
            stranded: Vec::new(),
            wake: None,
            load: LoadWindow::default(),
            draining: Draining::No,
            _guard: guard,
        }
    }

    /// Jobs that were taken out of the ledger to be dropped: nothing more is said of them.
    fn cancelled(&mut self, entries: impl IntoIterator<Item = Entry<Held>>, ctx: &mut Context<Self>) {
        let now = Instant::now().into_std();
        for mut entry in entries {
            self.report(&entry, Outcome::Cancelled, entry.grip.received.elapsed());
            self.fleet.on_cancel(&entry.backend, now);
            self.settle(&mut entry.grip, None);
            self.judge(&entry.backend, entry.grip.pass, Verdict::Neutral, ctx);
        }
        self.plan(ctx);
        self.serve_waiting(ctx);
    }

    /// Gives back what a job did not use of the token budget. `None`: how much it used is not known.
    fn settle(&mut self, held: &mut Held, used: Option<u64>) {
        if let (Some(budget), Some(reservation)) = (&mut self.budget, held.reservation.take()) {
            budget.settle(reservation, used, Instant::now().into_std());
        }
    }

    /// Whether running jobs are being ended, so that none should begin anew.
    fn draining_for_good(&self) -> bool {
        self.draining == Draining::Ending
    }

    /// Stops jobs that run and ends them with an error. They leave the ledger as that is written, like any other; those
    /// whose last frame is queued already keep it.
    fn fail(&self, whose: impl Fn(&Entry<Held>) -> bool, fault: Fault, ctx: &Context<Self>) {
        for entry in self.ledger.iter().filter(|entry| whose(entry)) {
            let Held { grip, uplink, received, .. } = &entry.grip;
            let Some(lease) = grip.end() else { continue };
            let admission = Admission {
                ticket: entry.ticket,
                backend: entry.backend.clone(),
                received: *received,
                ledger: ctx.address().recipient(),
            };
            relay::fail(entry.job, &lease, uplink, admission, None, fault.clone());
        }
    }

    /// Jobs that were taken and have not ended: they run, or wait to.
    fn accepted(&self) -> usize {
        self.ledger.in_flight() + self.waiting.len()
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
        if self.draining != Draining::No {
            self.setup.supervisor.do_send(StillRunning { in_flight: self.accepted() });
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

    fn handle(&mut self, down: ConnectionDown, ctx: &mut Self::Context) {
        if self.connection.as_ref().is_some_and(|uplink| uplink.generation() == down.generation) {
            self.connection = None;
            self.announced = None;
        }
        self.waiting.retain(|waiting| waiting.uplink.generation() != down.generation);
        let entries = self.ledger.end_generation(down.generation);
        self.cancelled(entries, ctx);
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
        match self.admit(submit.job, uplink, ctx) {
            Ok(Taken::Admitted) => MessageResult(None),
            Ok(Taken::RunsAlready) => {
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

    fn handle(&mut self, cancel: CancelJob, ctx: &mut Self::Context) {
        let is_it =
            |waiting: &Arrival| waiting.job.id == cancel.job && waiting.uplink.generation() == cancel.generation;
        self.waiting.retain(|waiting| !is_it(waiting));
        // A job that is not known has ended: a cancel that crossed its last frame is no fault.
        let entry = self.ledger.cancel(cancel.job, cancel.generation);
        self.cancelled(entry, ctx);
    }
}

impl Handler<JobEnded> for JobRouter {
    type Result = ();

    fn handle(&mut self, ended: JobEnded, ctx: &mut Self::Context) {
        // Cancelled jobs left the ledger when they were cancelled.
        let Some(mut entry) = self.ledger.end(ended.ticket) else { return };
        let now = Instant::now().into_std();
        self.report(&entry, ended.outcome.clone(), ended.duration);
        self.fleet.on_end(&entry.backend, now);
        let (verdict, used) = match ended.outcome {
            Outcome::Done { tokens } => {
                self.record(ended.duration, tokens, None);
                self.affinity.on_served(&entry.grip.beginnings, &entry.backend, now);
                let used = tokens.input.saturating_add(tokens.output);
                (Verdict::Success, Some(used).filter(|used| *used > 0))
            }
            Outcome::Failed { code, blame, by_connection } => {
                self.record(ended.duration, Tokens::default(), Some(code));
                if by_connection {
                    self.setup.discovery.do_send(RunDiscovery { backend: ended.backend });
                }
                // A backend that had begun, or was still at it as the deadline passed, may have used all that was reserved.
                let may_have_used = entry.grip.grip.has_begun() || code == ErrorCode::BackendTimeout;
                (Verdict::of(blame), if may_have_used { None } else { Some(0) })
            }
            Outcome::Cancelled => (Verdict::Neutral, None),
        };
        self.settle(&mut entry.grip, used);
        self.judge(&entry.backend, entry.grip.pass, verdict, ctx);
        entry.grip.grip.release();
        self.serve_waiting(ctx);
    }
}

impl Handler<LoadSeen> for JobRouter {
    type Result = ();

    fn handle(&mut self, seen: LoadSeen, ctx: &mut Self::Context) {
        let ours = self.ledger.on_backend(&seen.backend);
        let (asked, now) = (seen.asked.into_std(), Instant::now().into_std());
        self.fleet.on_load(&seen.backend, seen.busy, ours, asked, now);
        self.announce(ctx);
        self.serve_waiting(ctx);
        self.plan(ctx);
    }
}

impl Handler<RoutesChanged> for JobRouter {
    type Result = ();

    fn handle(&mut self, routes: RoutesChanged, ctx: &mut Self::Context) {
        self.fleet.update(&routes.catalog);
        self.catalog = routes.catalog;
        self.pools = routes.pools;
        self.settled |= routes.complete;
        self.announce(ctx);
        self.serve_waiting(ctx);
    }
}

impl Handler<PoolLost> for JobRouter {
    type Result = ();

    fn handle(&mut self, lost: PoolLost, ctx: &mut Self::Context) {
        self.fail(|entry| entry.backend == lost.backend, Fault::agent("the agent failed while working the job"), ctx);
    }
}

impl Handler<SampleLoad> for JobRouter {
    type Result = MessageResult<SampleLoad>;

    fn handle(&mut self, _: SampleLoad, _: &mut Self::Context) -> Self::Result {
        let heartbeat: Heartbeat = self.load.heartbeat(Instant::now().into_std(), self.accepted() as u64);
        MessageResult(heartbeat)
    }
}

impl Handler<StopAdmitting> for JobRouter {
    type Result = ();

    fn handle(&mut self, _: StopAdmitting, _: &mut Self::Context) {
        if self.draining == Draining::No {
            self.draining = Draining::Finishing;
        }
        self.tell_if_draining();
    }
}

impl Handler<EndJobs> for JobRouter {
    type Result = ();

    fn handle(&mut self, _: EndJobs, ctx: &mut Self::Context) {
        self.draining = Draining::Ending;
        self.fail(|_| true, Fault::stopping(), ctx);
        self.serve_waiting(ctx);
    }
}

impl Handler<Stop> for JobRouter {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
