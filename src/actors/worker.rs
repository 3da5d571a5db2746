//! A slot of a backend: works one job at a time.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::envelopes::{Dispatch, Stop, WorkerFree, WorkerId};
use super::guard::Guard;
use super::relay;
use crate::backends::{Backend, BackendFactory};
use crate::protocol::policy::RequestPolicy;

/// Works jobs on a data arbiter, with its own client of the backend.
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
        let policy = self.policy;
        let work = async move { relay::work(&*backend, policy, dispatch).await };
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
