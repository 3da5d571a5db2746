//! The router actor's part of a job: its request, and the handle that cancels its work on drop.

use actix::Recipient;
use tokio::time::Instant;

use super::messages::{Admission, Dispatch, TryElsewhere};
use crate::core::scheduling::estimate::Outline;
use crate::core::scheduling::route::Service;
use crate::core::scheduling::router::{Progress, Work};
use crate::core::session::delivery::Delivery;
use crate::messages::endpoint::AnswerForm;
use crate::messages::jobs::{Job, JobEnded, Ticket};
use crate::relay::job_stream::JobHandle;
use crate::relay::outbox::Outbox;
use crate::relay::{self, Fault};

/// A job between its acceptance and its end. Dropping it cancels the job.
pub(super) struct RoutedJob {
    received: Instant,
    form: AnswerForm,
    /// `None` while a worker has it.
    job: Option<Job>,
    handle: JobHandle,
    /// Why its last backend failed it.
    fault: Option<Fault>,
}

impl RoutedJob {
    pub(super) fn new(job: Job, outbox: &Outbox) -> Self {
        let (handle, _) = outbox.open(job.id);
        Self { received: job.received.into(), form: job.form, job: Some(job), handle, fault: None }
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
        let stream = self.handle.stream().clone();
        self.job.take().map(|job| Dispatch { job, service, elsewhere, stream, admission })
    }

    /// A backend failed the job, and its worker has returned it.
    pub(super) fn take_back(&mut self, job: Job, fault: Fault) {
        (self.job, self.fault) = (Some(job), Some(fault));
    }

    /// Ends the job with `job_error` and stops its worker, unless its end is on its way already.
    pub(super) fn end(&self, admission: Admission, fault: Fault) {
        relay::end(self.handle.stream(), fault, admission.report());
    }

    /// Sends what the last backend reported, and ends the job with it.
    pub(super) fn give_up(&mut self, admission: Admission) -> impl Future<Output = ()> + use<> {
        self.job = None;
        let fault = self.fault.take().unwrap_or_else(Fault::worker_lost);
        let stream = self.handle.stream().clone();
        async move { relay::give_up(&stream, fault, admission.report()).await }
    }

    /// The job has ended: what could start it anew is not needed any more.
    pub(super) fn forget_request(&mut self) {
        (self.job, self.fault) = (None, None);
    }

    /// Lets the job's frames go to another connection, from that byte of its response.
    pub(super) fn attach(&self, outbox: &Outbox, offset: u64) {
        self.handle.stream().attach(outbox.clone(), offset);
    }

    /// The coordinator wants bytes that the agent does not have: ends the job, or replaces the end that it has.
    pub(super) fn end_not_kept(&self, admission: Admission) {
        let fault = Fault::not_kept();
        self.handle.stream().replace_terminal(fault.job_error(self.handle.stream().job()));
        self.end(admission, fault);
    }

    /// The job ended by itself: its last frames are sent.
    pub(super) fn release(self) {
        self.handle.release();
    }
}

impl Work for RoutedJob {
    fn outline(&self) -> Option<Outline<'_>> {
        self.job.as_ref().and_then(|job| Outline::of(&job.request, &job.members).ok())
    }

    fn delivery(&self) -> Delivery {
        self.handle.stream().delivery()
    }

    fn acknowledge(&mut self, offset: u64) {
        self.handle.stream().acknowledge(offset);
    }

    fn first_byte(&self) -> Option<std::time::Instant> {
        self.handle.stream().first_byte().map(Instant::into_std)
    }

    fn events(&self) -> u64 {
        self.handle.stream().progress().events()
    }

    fn progress(&self) -> Progress {
        let stream = self.handle.stream();
        match self.form {
            _ if !stream.progress().has_begun() => Progress::NotBegun,
            AnswerForm::Stream => Progress::Streamed(stream.delivery().produced()),
            AnswerForm::Whole => Progress::Begun,
        }
    }
}
