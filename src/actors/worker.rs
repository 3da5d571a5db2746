//! A slot of a backend: runs one job at a time.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::guard::Guard;
use super::messages::{Dispatch, TryElsewhere};
use crate::backends::{Backend, BackendFactory};
use crate::core::formats::policy::RequestPolicy;
use crate::messages::lifecycle::Stop;
use crate::messages::workers::{WorkerFree, WorkerId};
use crate::relay::{self, Relayed};

/// Runs jobs on a data arbiter, with its own client of the backend.
pub(super) struct JobWorker {
    pub(super) id: WorkerId,
    pub(super) factory: Arc<dyn BackendFactory>,
    pub(super) policy: RequestPolicy,
    pub(super) backend: Option<Rc<dyn Backend>>,
    pub(super) pool: Recipient<WorkerFree>,
    pub(super) _guard: Guard,
}

impl Actor for JobWorker {
    type Context = Context<Self>;
}

impl Handler<Dispatch> for JobWorker {
    type Result = ();

    fn handle(&mut self, dispatch: Dispatch, ctx: &mut Self::Context) {
        if !dispatch.stream.is_running() {
            // Cancelled on its way here.
            return self.pool.do_send(WorkerFree { worker: self.id });
        }
        let backend = Rc::clone(self.backend.get_or_insert_with(|| self.factory.open()));
        let work = work(backend, self.policy, dispatch);
        ctx.spawn(work.into_actor(self).map(|(), worker, _| {
            worker.pool.do_send(WorkerFree { worker: worker.id });
        }));
    }
}

impl Handler<Stop> for JobWorker {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Runs a job to its end, unless it is cancelled or ended by another actor. The end is reported to the router as the
/// terminal frame is written. A job that another backend may complete is returned to the router instead.
async fn work(backend: Rc<dyn Backend>, policy: RequestPolicy, dispatch: Dispatch) {
    let Dispatch { job, service, elsewhere, stream, admission } = dispatch;
    let received = job.received.into();
    let copy = elsewhere.as_ref().map(|_| job.clone());
    match (relay::run(&*backend, policy, job, service, &stream, copy).await, elsewhere) {
        (Some(Relayed::Done(tokens)), _) => relay::finish(&stream, tokens, received, admission.report()),
        (Some(Relayed::Retry { job, fault }), Some(router)) => {
            router.do_send(TryElsewhere { job, stream, admission, fault });
        }
        (Some(Relayed::Failed(fault) | Relayed::Retry { fault, .. }), _) => {
            relay::give_up(&stream, fault, admission.report()).await;
        }
        (None, _) => {}
    }
}
