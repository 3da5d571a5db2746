//! What the jobs of a session decide from, for the model check.

use super::{ActiveJob, MissingJob, Workload};
use crate::coordinator::fleet::response_channel::ResponseEnd;
use crate::core::fingerprint::Fingerprint;
use crate::messages::ids::JobId;

impl<S> Workload<S> {
    /// Adds what is decided from, but for the clients' sides.
    pub(crate) fn add_to(&self, to: &mut Fingerprint<'_>) {
        for (job, ActiveJob { sender: _, receipt, begun }) in &self.0 {
            to.add_of(*job, ("is at the agent", receipt, begun));
        }
    }

    /// The clients' sides.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (JobId, &S)> {
        self.0.iter().map(|(job, active)| (*job, &active.sender))
    }

    /// The client's side of a job.
    pub(crate) fn client(&mut self, job: JobId) -> Option<&mut S> {
        self.0.get_mut(&job).map(|active| &mut active.sender)
    }
}

impl<S> MissingJob<S> {
    /// How it ends, and its client's side.
    pub(crate) fn parts(&self) -> (&ResponseEnd, &S) {
        let Self { job: _, sender, end } = self;
        (end, sender)
    }
}
