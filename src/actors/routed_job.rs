//! The router actor's part of a job: its request, and the handle that cancels its work on drop.

use actix::Recipient;
use tokio::time::Instant;

use super::envelopes::{Admission, Dispatch, TryElsewhere};
use super::relay::{self, Fault};
use crate::core::scheduling::estimate::Outline;
use crate::core::scheduling::route::Service;
use crate::core::scheduling::router::{Progress, Work};
use crate::messages::endpoint::AnswerForm;
use crate::messages::ids::JobId;
use crate::messages::jobs::{Job, JobEnded, Ticket};
use crate::transport::lease::{JobGrip, JobLease};
use crate::transport::uplink::Uplink;

/// A job between its acceptance and its end. Dropping it cancels the job.
pub(super) struct RoutedJob {
    id: JobId,
    received: Instant,
    form: AnswerForm,
    /// `None` while a worker has it.
    job: Option<Job>,
    grip: JobGrip,
    lease: JobLease,
    uplink: Uplink,
    /// Why its last backend failed it.
    fault: Option<Fault>,
}

impl RoutedJob {
    pub(super) fn new(job: Job, uplink: Uplink) -> Self {
        let (grip, lease) = JobGrip::new();
        Self { id: job.id, received: job.received, form: job.form, job: Some(job), grip, lease, uplink, fault: None }
    }

    pub(super) fn id(&self) -> JobId {
        self.id
    }

    pub(super) fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// Where its end is to be reported.
    pub(super) fn admission(&self, ticket: Ticket, ledger: Recipient<JobEnded>) -> Admission {
        Admission { ticket, received: self.received, ledger }
    }

    /// What a worker needs. `None` while another one has the job.
    pub(super) fn dispatch(
        &mut self,
        service: Service,
        elsewhere: Option<Recipient<TryElsewhere>>,
        admission: Admission,
    ) -> Option<Dispatch> {
        let (lease, uplink) = (self.lease.clone(), self.uplink.clone());
        self.job.take().map(|job| Dispatch { job, service, elsewhere, lease, uplink, admission })
    }

    /// A backend failed the job, and its worker has returned it.
    pub(super) fn take_back(&mut self, job: Job, fault: Fault) {
        (self.job, self.fault) = (Some(job), Some(fault));
    }

    /// Claims the job's end and stops its worker. `None`: its end is on its way already.
    pub(super) fn end(&self) -> Option<JobLease> {
        self.grip.end()
    }

    /// Sends what the last backend reported, and ends the job with it.
    pub(super) fn give_up(&mut self, admission: Admission) -> impl Future<Output = ()> + use<> {
        self.job = None;
        let fault = self.fault.take().unwrap_or_else(Fault::worker_lost);
        let (id, lease, uplink) = (self.id, self.lease.clone(), self.uplink.clone());
        async move { relay::give_up(id, &lease, &uplink, admission, fault).await }
    }

    /// The job ended by itself: its last frames are sent.
    pub(super) fn release(self) {
        self.grip.release();
    }
}

impl Work for RoutedJob {
    fn outline(&self) -> Option<Outline<'_>> {
        self.job.as_ref().and_then(|job| Outline::of(&job.request, &job.members).ok())
    }

    fn progress(&self) -> Progress {
        match self.form {
            _ if !self.grip.has_begun() => Progress::NotBegun,
            AnswerForm::Stream => Progress::Streamed(self.lease.relayed()),
            AnswerForm::Whole => Progress::Begun,
        }
    }
}
