//! The workers of one backend: started when they are first needed, kept, and replaced when they die.
//!
//! It counts nothing: the ledger admits no more jobs than the backend takes, and a job is dispatched here only after it
//! was admitted. A worker is free as soon as its job's last frame is queued, and the job leaves the ledger as that frame is
//! written: so a dispatched job finds a worker, unless that worker's message has not arrived yet.

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;

use super::guard::{ActorCount, End, Guard};
use super::messages::{Admission, Dispatch};
use super::worker::JobWorker;
use crate::backends::BackendFactory;
use crate::core::formats::policy::RequestPolicy;
use crate::messages::lifecycle::Stop;
use crate::messages::workers::{WorkerFree, WorkerGone, WorkerId};
use crate::relay::job_stream::JobStream;
use crate::relay::{self, Fault};
use crate::telemetry::Events;
use crate::telemetry::events::WorkerLost;

/// Workers without a job that are kept for the next one.
const IDLE_KEPT: usize = 256;

/// Owns the workers of one backend.
pub(super) struct WorkerPool {
    factory: Arc<dyn BackendFactory>,
    policy: RequestPolicy,
    /// Where workers live, round robin. At least one.
    arbiters: Arc<[ArbiterHandle]>,
    events: Events,
    actor_count: ActorCount,
    workers: HashMap<WorkerId, Slot>,
    /// Workers without a job, the one last used on top.
    idle: Vec<WorkerId>,
    started: u64,
    _guard: Guard,
}

/// A worker and its job.
struct Slot {
    addr: Addr<JobWorker>,
    job: Option<Assigned>,
}

/// What is needed to end a job whose worker has died.
struct Assigned {
    stream: JobStream,
    admission: Admission,
}

impl WorkerPool {
    pub(super) fn new(
        factory: Arc<dyn BackendFactory>,
        policy: RequestPolicy,
        arbiters: Arc<[ArbiterHandle]>,
        events: Events,
        actor_count: ActorCount,
        guard: Guard,
    ) -> Self {
        Self {
            factory,
            policy,
            arbiters,
            events,
            actor_count,
            workers: HashMap::new(),
            idle: Vec::new(),
            started: 0,
            _guard: guard,
        }
    }

    fn start_worker(&mut self, ctx: &mut Context<Self>) -> WorkerId {
        let id = WorkerId(self.started);
        let turn = usize::try_from(self.started).unwrap_or_default() % self.arbiters.len().max(1);
        self.started += 1;
        let pool = ctx.address();
        let factory = Arc::clone(&self.factory);
        let events = self.events.clone();
        let guard = Guard::new(&self.actor_count, {
            let (pool, backend) = (pool.clone().recipient(), self.factory.id().clone());
            move |end| {
                if end == End::Panicked {
                    events.emit(WorkerLost { backend });
                }
                pool.do_send(WorkerGone { worker: id });
            }
        });
        let policy = self.policy;
        let worker = move |_: &mut Context<JobWorker>| JobWorker {
            id,
            factory,
            policy,
            backend: None,
            pool: pool.recipient(),
            _guard: guard,
        };
        let addr = match self.arbiters.get(turn) {
            Some(arbiter) => JobWorker::start_in_arbiter(arbiter, worker),
            None => JobWorker::create(worker),
        };
        self.workers.insert(id, Slot { addr, job: None });
        id
    }
}

impl Actor for WorkerPool {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        for slot in self.workers.values() {
            slot.addr.do_send(Stop);
        }
    }
}

impl Handler<Dispatch> for WorkerPool {
    type Result = ();

    fn handle(&mut self, dispatch: Dispatch, ctx: &mut Self::Context) {
        let id = self.idle.pop().unwrap_or_else(|| self.start_worker(ctx));
        let Some(slot) = self.workers.get_mut(&id) else { return };
        slot.job = Some(Assigned { stream: dispatch.stream.clone(), admission: dispatch.admission.clone() });
        slot.addr.do_send(dispatch);
    }
}

impl Handler<WorkerFree> for WorkerPool {
    type Result = ();

    fn handle(&mut self, free: WorkerFree, _: &mut Self::Context) {
        let Some(slot) = self.workers.get_mut(&free.worker) else { return };
        if slot.job.take().is_none() {
            return;
        }
        if self.idle.len() < IDLE_KEPT {
            self.idle.push(free.worker);
        } else {
            slot.addr.do_send(Stop);
        }
    }
}

impl Handler<WorkerGone> for WorkerPool {
    type Result = ();

    fn handle(&mut self, gone: WorkerGone, _: &mut Self::Context) {
        self.idle.retain(|id| *id != gone.worker);
        let job = self.workers.remove(&gone.worker).and_then(|slot| slot.job);
        if let Some(Assigned { stream, admission }) = job {
            relay::end(&stream, Fault::worker_lost(), admission.report());
        }
    }
}

impl Handler<Stop> for WorkerPool {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
