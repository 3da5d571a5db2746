//! The jobs that an agent runs, and their responses as they arrive. No sockets: the session's connection calls it, and it is
//! generic over the clients' side.
//!
//! With the extension `endpoints` the first chunk of a job may have the head of the response; a head in another chunk is
//! ignored. With `binary` too that first chunk is a JSON `job_chunk`, and its bytes count for the offsets of the binary
//! chunks after it. With `resume` a chunk may begin before the bytes that were received, because the agent sent it again on
//! another connection: only its new bytes are passed on.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};

use crate::coordinator::fleet::response_channel::{PushError, ResponseEnd, ResponseSender};
use crate::core::session::delivery::Receipt;
use crate::messages::ids::JobId;
use crate::messages::wire::{BinaryChunk, Extension, Extensions, JobChunk, KeptJob, ResponseHead, WantedJob};

/// The way of a job's response to its client.
pub(crate) trait ClientSide {
    /// The job is being sent to the agent, which may run it from now on.
    fn mark_sent(&mut self);

    /// Passes the head on. Called once, before any chunk.
    fn begin(&mut self, head: ResponseHead);

    /// Passes bytes on. Never waits.
    fn push(&mut self, bytes: Bytes) -> Result<(), PushError>;

    /// The bytes that the client took over since the last call.
    fn newly_taken(&mut self) -> u64;

    /// Whether the client is gone.
    fn is_abandoned(&self) -> bool;

    /// Reports whether the job waits for an agent that has no connection.
    fn set_waiting(&mut self, waiting: bool);

    /// Passes the end on.
    fn finish(self, end: ResponseEnd);
}

/// A job that was sent to the agent and has not ended.
#[derive(Clone)]
struct ActiveJob<S> {
    sender: S,
    receipt: Receipt,
    /// Whether a chunk was received.
    begun: bool,
}

/// The jobs of an agent. Its drop ends them as lost.
#[derive(Clone)]
pub(crate) struct Workload<S = ResponseSender>(HashMap<JobId, ActiveJob<S>>);

impl<S> Default for Workload<S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// Why a chunk was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// The session must end the job like this, and cancel it.
    GiveUp(JobId, ResponseEnd),
    /// The agent violated the protocol.
    Violation(&'static str),
}

/// A job that the agent no longer has, with how it ends.
#[derive(Clone)]
pub(crate) struct MissingJob<S = ResponseSender> {
    /// The job.
    pub(crate) job: JobId,
    sender: S,
    end: ResponseEnd,
}

impl<S: ClientSide> MissingJob<S> {
    /// Sends the end to the client's side.
    pub(crate) fn finish(self) {
        self.sender.finish(self.end);
    }
}

impl<S: ClientSide> Workload<S> {
    /// Adds a job that is being sent.
    pub(crate) fn begin(&mut self, job: JobId, mut sender: S) {
        sender.mark_sent();
        self.0.insert(job, ActiveJob { sender, receipt: Receipt::default(), begun: false });
    }

    /// The number of jobs.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes a job whose client disconnected. `false` if there is no such job.
    pub(crate) fn forget(&mut self, job: JobId) -> bool {
        self.0.remove(&job).is_some()
    }

    /// Removes a job that has ended. The caller sends the end through the sender.
    pub(crate) fn end(&mut self, job: JobId) -> Option<S> {
        self.0.remove(&job).map(|active| active.sender)
    }

    /// Accepts a JSON chunk. A chunk of an unknown job is ignored: its cancel may have crossed it on the wire.
    pub(crate) fn take(&mut self, chunk: &JobChunk, agreed: Extensions) -> Result<(), ChunkError> {
        let job = chunk.job_id;
        let Some(active) = self.0.get_mut(&job) else { return Ok(()) };
        let unreadable = || ChunkError::GiveUp(job, ResponseEnd::Unreadable);
        let bytes = STANDARD.decode(&chunk.data).map_err(|_| unreadable())?;
        let received = active.receipt.received();
        let offset = match chunk.offset {
            _ if !agreed.contains(Extension::Resume) => received,
            Some(offset) => offset,
            // A first chunk is at 0. Any other may have been sent before.
            None if received == 0 => 0,
            None => return Err(unreadable()),
        };
        let head = ResponseHead::of(chunk).filter(|_| agreed.contains(Extension::Endpoints));
        active.receive(job, offset, bytes.into(), head)
    }

    /// Accepts a binary chunk. The same rules apply. Without `resume` no chunk is sent twice.
    pub(crate) fn take_binary(&mut self, chunk: &BinaryChunk, agreed: Extensions) -> Result<(), ChunkError> {
        let job = JobId::from(chunk.job);
        let Some(active) = self.0.get_mut(&job) else { return Ok(()) };
        if chunk.offset != active.receipt.received() && !agreed.contains(Extension::Resume) {
            return Err(ChunkError::Violation("chunk at a wrong offset"));
        }
        // A copy: a few bytes that wait for a slow client must not keep the whole read buffer in memory.
        active.receive(job, chunk.offset, Bytes::copy_from_slice(&chunk.bytes), None)
    }

    /// The offset to acknowledge for a job, if its client took over bytes since the last one.
    pub(crate) fn acknowledge(&mut self, job: JobId) -> Option<u64> {
        self.0.get_mut(&job)?.take_over().acknowledge()
    }

    /// The same for all jobs.
    pub(crate) fn acknowledge_all(&mut self) -> Vec<(JobId, u64)> {
        self.acknowledge_each(Receipt::acknowledge)
    }

    /// The offsets to acknowledge on a new connection, where earlier acknowledgements may not have arrived.
    pub(crate) fn acknowledge_again(&mut self) -> Vec<(JobId, u64)> {
        self.acknowledge_each(Receipt::acknowledge_again)
    }

    fn acknowledge_each(&mut self, offset: fn(&mut Receipt) -> Option<u64>) -> Vec<(JobId, u64)> {
        self.0.iter_mut().filter_map(|(job, active)| Some((*job, offset(active.take_over())?))).collect()
    }

    /// Whether bytes were received that are not acknowledged.
    pub(crate) fn has_unacknowledged(&self) -> bool {
        self.0.values().any(|active| active.receipt.unacknowledged() > 0)
    }

    /// Tells the clients' sides that the agent has no connection.
    pub(crate) fn wait_for_agent(&mut self) {
        self.0.values_mut().for_each(|active| active.sender.set_waiting(true));
    }

    /// The agent has a new connection, and still keeps these jobs. Returns those that it is to go on with, and removes the others:
    /// those without a client, and those that it does not have.
    pub(crate) fn resume(&mut self, kept: &[KeptJob]) -> (Vec<WantedJob>, Vec<MissingJob<S>>) {
        self.drop_abandoned();
        let kept: HashSet<JobId> = kept.iter().map(|kept| kept.job_id).collect();
        let missing = self.0.extract_if(|job, _| !kept.contains(job)).map(|(job, ActiveJob { sender, begun, .. })| {
            // The frame of a job without a byte of a response did not arrive.
            let end = if begun { ResponseEnd::AgentLost } else { ResponseEnd::NotSent };
            MissingJob { job, sender, end }
        });
        let missing = missing.collect();
        let wanted = self.0.iter_mut().map(|(job, active)| {
            active.sender.set_waiting(false);
            WantedJob { job_id: *job, offset: active.receipt.received() }
        });
        (wanted.collect(), missing)
    }

    /// The agent has opened another session. Removes the jobs without a byte of a response, which may be sent again.
    pub(crate) fn take_unbegun(&mut self) -> Vec<MissingJob<S>> {
        let unbegun = self.0.extract_if(|_, active| !active.begun);
        let end = ResponseEnd::AgentRestarted;
        unbegun.map(|(job, active)| MissingJob { job, sender: active.sender, end: end.clone() }).collect()
    }

    /// Drops the jobs without a client.
    pub(crate) fn drop_abandoned(&mut self) {
        self.0.retain(|_, active| !active.sender.is_abandoned());
    }
}

impl<S: ClientSide> ActiveJob<S> {
    fn receive(
        &mut self,
        job: JobId,
        offset: u64,
        mut bytes: Bytes,
        head: Option<ResponseHead>,
    ) -> Result<(), ChunkError> {
        let known = self.receipt.receive(offset, bytes.len() as u64);
        let known = known.map_err(|_| ChunkError::GiveUp(job, ResponseEnd::Unreadable))?;
        if let Some(head) = head.filter(|_| !self.begun) {
            self.sender.begin(head);
        }
        self.begun = true;
        bytes.advance(known as usize);
        match self.sender.push(bytes) {
            // Gone: the job is being cancelled, because the owner of the receiver also owns the handle.
            Ok(()) | Err(PushError::Gone) => Ok(()),
            Err(PushError::Full) => Err(ChunkError::GiveUp(job, ResponseEnd::SlowClient)),
        }
    }

    /// Counts what the client took over.
    fn take_over(&mut self) -> &mut Receipt {
        self.receipt.take(self.sender.newly_taken());
        &mut self.receipt
    }
}

impl ClientSide for ResponseSender {
    fn mark_sent(&mut self) {
        Self::mark_sent(self);
    }

    fn begin(&mut self, head: ResponseHead) {
        Self::begin(self, head);
    }

    fn push(&mut self, bytes: Bytes) -> Result<(), PushError> {
        Self::push(self, bytes)
    }

    fn newly_taken(&mut self) -> u64 {
        Self::newly_taken(self)
    }

    fn is_abandoned(&self) -> bool {
        Self::is_abandoned(self)
    }

    fn set_waiting(&mut self, waiting: bool) {
        Self::set_waiting(self, waiting);
    }

    fn finish(self, end: ResponseEnd) {
        Self::finish(self, end);
    }
}

#[cfg(any(test, fuzzing))]
mod fingerprint;
#[cfg(test)]
mod tests;
