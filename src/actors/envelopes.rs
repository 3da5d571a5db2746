//! The actors' messages that carry live handles. Those of plain data are in `messages`.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::time::Instant;

use crate::backends::BackendFactory;
use crate::core::scheduling::catalog::Catalog;
use crate::core::scheduling::route::Service;
use crate::core::scheduling::router::RouterView;
use crate::messages::ids::{BackendId, Generation, JobId};
use crate::messages::jobs::{Job, JobEnded, Outcome, Ticket};
use crate::messages::wire::{Heartbeat, JobError, MalformedJob};
use crate::relay::Fault;
use crate::relay::job_stream::JobStream;
use crate::relay::outbox::Outbox;

/// Stop now.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Stop;

/// Connection to supervisor and router: jobs can come.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(super) struct ConnectionUp {
    pub(super) outbox: Outbox,
}

/// Supervisor to router: that connection is over, and so are its jobs.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ConnectionDown {
    pub(super) generation: Generation,
}

/// Connection to router: a job came, or one that can be named and not be done.
#[derive(Message)]
#[rtype(result = "SubmitReply")]
pub(super) struct SubmitJob {
    pub(super) generation: Generation,
    pub(super) job: Result<Job, MalformedJob>,
}

/// What the connection does about a job that it submitted.
pub(super) enum SubmitReply {
    /// Nothing: the job was accepted, or is of an earlier connection.
    Nothing,
    /// Skip the frame: a job with this id runs already, and an answer would end that job.
    AlreadyRuns,
    /// Send this.
    Refused(JobError),
}

/// Connection to router: drop a job.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct CancelJob {
    pub(super) generation: Generation,
    pub(super) job: JobId,
}

/// Where the end of an accepted job is reported.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) ticket: Ticket,
    /// When the job was received.
    pub(super) received: Instant,
    pub(super) ledger: Recipient<JobEnded>,
}

impl Admission {
    /// Reports how the job ended, to be called as its last frame is written.
    pub(super) fn report(self) -> impl FnOnce(Outcome) + Send + 'static {
        move |outcome| {
            let duration = self.received.elapsed();
            self.ledger.do_send(JobEnded { ticket: self.ticket, outcome, duration });
        }
    }
}

/// Router to pool to worker: work this job.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Dispatch {
    pub(super) job: Job,
    /// How the backend serves what the job asks for.
    pub(super) service: Service,
    /// Who may find another backend, where there is one, if this fails the job before anything of its answer went up.
    pub(super) elsewhere: Option<Recipient<TryElsewhere>>,
    pub(super) stream: JobStream,
    pub(super) admission: Admission,
}

/// Worker to router: this backend failed the job, and nothing of an answer went up.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct TryElsewhere {
    pub(super) job: Job,
    pub(super) stream: JobStream,
    pub(super) admission: Admission,
    pub(super) fault: Fault,
}

/// Discovery by way of the supervisor to router: how many requests a server works now, whoever's they are.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LoadSeen {
    pub(super) backend: BackendId,
    pub(super) busy: u32,
    /// When it was asked: the answer is of some moment since.
    pub(super) asked: Instant,
}

/// Router by way of the supervisor to discovery: ask that backend for its load.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct AskLoad {
    pub(super) backend: BackendId,
}

/// Names a worker within its pool; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WorkerId(pub(super) u64);

/// Worker to pool: I am free.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct WorkerFree {
    pub(super) worker: WorkerId,
}

/// A worker's guard to its pool: it is gone.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct WorkerGone {
    pub(super) worker: WorkerId,
}

/// Discovery to supervisor: what is on offer changed, or the first pass is complete.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(super) struct CatalogChanged {
    pub(super) catalog: Arc<Catalog>,
    /// Every healthy backend: those that the catalog routes to are among them.
    pub(super) backends: Vec<Arc<dyn BackendFactory>>,
    /// Whether each backend has been looked at once.
    pub(super) complete: bool,
}

/// Supervisor to router: the catalog, and the pools behind it.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(super) struct RoutesChanged {
    pub(super) catalog: Arc<Catalog>,
    pub(super) pools: HashMap<BackendId, Recipient<Dispatch>>,
    pub(super) complete: bool,
}

/// Supervisor to router: that backend's workers are gone, and so are their jobs.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct PoolLost {
    pub(super) backend: BackendId,
}

/// Router by way of the supervisor to discovery: look at that backend now.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct RunDiscovery {
    pub(super) backend: BackendId,
}

/// Heartbeat to router: your figures, please.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Heartbeat")]
pub(super) struct SampleLoad;

/// Status server to supervisor to router: the router's state; none while there is no router.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<RouterView>")]
pub struct GetRouterView;

/// Supervisor to router: admit nothing more and say when nothing runs.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StopAdmitting;

/// Supervisor to router: end what still runs.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EndJobs;

/// Router to supervisor while draining: so many jobs still run.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StillRunning {
    pub(super) in_flight: usize,
}
