//! The actors' messages that carry live handles. Those that are plain data are in `crate::messages`.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::time::Instant;

use crate::backends::BackendFactory;
use crate::core::scheduling::catalog::Catalog;
use crate::core::scheduling::route::Service;
use crate::core::scheduling::router::RouterView;
use crate::core::session::handshake::SessionGrant;
use crate::messages::ids::BackendId;
use crate::messages::jobs::{Acknowledged, CancelJob, Job, JobEnded, Outcome, SubmitJob, Ticket};
use crate::messages::lifecycle::OfferSession;
use crate::relay::Fault;
use crate::relay::job_stream::JobStream;
use crate::relay::outbox::Outbox;

/// Connection to supervisor and router: the connection is authenticated and can receive jobs.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(super) struct ConnectionUp {
    pub(super) outbox: Outbox,
    /// The session, where `resume` was agreed on.
    pub(super) session: Option<SessionGrant>,
}

/// The router as a connection sees it.
#[derive(Clone)]
pub(super) struct RouterInputs {
    pub(super) sessions: Recipient<OfferSession>,
    pub(super) jobs: Recipient<SubmitJob>,
    pub(super) cancels: Recipient<CancelJob>,
    pub(super) acks: Recipient<Acknowledged>,
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

/// Router to pool to worker: run this job.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Dispatch {
    pub(super) job: Job,
    /// How the backend serves what the job asks for.
    pub(super) service: Service,
    /// Takes the job back if this backend fails it before the first response byte. `None` if no other backend could retry
    /// it.
    pub(super) elsewhere: Option<Recipient<TryElsewhere>>,
    pub(super) stream: JobStream,
    pub(super) admission: Admission,
}

/// Worker to router: this backend failed the job before the first response byte was sent.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct TryElsewhere {
    pub(super) job: Job,
    pub(super) stream: JobStream,
    pub(super) admission: Admission,
    pub(super) fault: Fault,
}

/// Discovery to supervisor: the offer changed, or the first round of probes is complete.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(super) struct CatalogChanged {
    pub(super) catalog: Arc<Catalog>,
    /// Every healthy backend: those that the catalog routes to are among them.
    pub(super) backends: Vec<Arc<dyn BackendFactory>>,
    /// Whether each backend has been probed once.
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

/// Status server to supervisor to router: the router's state; none while there is no router.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<RouterView>")]
pub struct GetRouterView;
