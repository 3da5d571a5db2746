//! The jobs that an agent runs, and their responses as they arrive. No sockets: the session calls it.
//!
//! With the extension `endpoints` the first chunk of a job may have the head of the response; a head in another chunk is
//! ignored. With `binary` too that first chunk is a JSON `job_chunk`, and its bytes count for the offsets of the binary
//! chunks after it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::coordinator::fleet::response_channel::{PushError, ResponseEnd, ResponseSender};
use crate::messages::ids::JobId;
use crate::messages::wire::{BinaryChunk, Extension, Extensions, JobChunk, ResponseHead};

/// A job that was sent to the agent and has not ended.
struct ActiveJob {
    sender: ResponseSender,
    /// Bytes of its response that were received.
    received: u64,
    /// Whether a chunk was received.
    begun: bool,
}

/// The jobs of an agent. Its drop ends them as lost.
#[derive(Default)]
pub(crate) struct Workload(HashMap<JobId, ActiveJob>);

/// Why a chunk was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// The session must end the job like this, and cancel it.
    GiveUp(JobId, ResponseEnd),
    /// The agent violated the protocol.
    Violation(&'static str),
}

impl Workload {
    /// Adds a job that is being sent.
    pub(crate) fn begin(&mut self, job: JobId, sender: ResponseSender) {
        sender.mark_sent();
        self.0.insert(job, ActiveJob { sender, received: 0, begun: false });
    }

    /// The number of jobs.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes all jobs, which ends them as lost.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes a job whose client disconnected. `false` if there is no such job.
    pub(crate) fn forget(&mut self, job: JobId) -> bool {
        self.0.remove(&job).is_some()
    }

    /// Removes a job that has ended. The caller sends the end through the sender.
    pub(crate) fn end(&mut self, job: JobId) -> Option<ResponseSender> {
        self.0.remove(&job).map(|active| active.sender)
    }

    /// Accepts a JSON chunk. A chunk of an unknown job is ignored: its cancel may have crossed it on the wire.
    pub(crate) fn take(&mut self, chunk: &JobChunk, agreed: Extensions) -> Result<(), ChunkError> {
        let job = chunk.job_id;
        let Some(active) = self.0.get_mut(&job) else { return Ok(()) };
        let Ok(bytes) = STANDARD.decode(&chunk.data) else {
            return Err(ChunkError::GiveUp(job, ResponseEnd::Unreadable));
        };
        let head = ResponseHead::of(chunk).filter(|_| !active.begun && agreed.contains(Extension::Endpoints));
        if let Some(head) = head {
            active.sender.begin(head);
        }
        active.pass_on(job, bytes.into())
    }

    /// Accepts a binary chunk. The same rules apply.
    pub(crate) fn take_binary(&mut self, chunk: &BinaryChunk) -> Result<(), ChunkError> {
        let job = JobId::from(chunk.job);
        let Some(active) = self.0.get_mut(&job) else { return Ok(()) };
        if chunk.offset != active.received {
            return Err(ChunkError::Violation("chunk at a wrong offset"));
        }
        // A copy: a few bytes that wait for a slow client must not keep the whole read buffer in memory.
        active.pass_on(job, Bytes::copy_from_slice(&chunk.bytes))
    }
}

impl ActiveJob {
    fn pass_on(&mut self, job: JobId, bytes: Bytes) -> Result<(), ChunkError> {
        self.begun = true;
        self.received += bytes.len() as u64;
        match self.sender.push(bytes) {
            // Gone: the job is being cancelled, because the owner of the receiver also owns the handle.
            Ok(()) | Err(PushError::Gone) => Ok(()),
            Err(PushError::Full) => Err(ChunkError::GiveUp(job, ResponseEnd::SlowClient)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::fleet::response_channel::{ResponsePart, ResponseReceiver, response_channel};
    use crate::messages::wire::Tokens;

    fn active() -> (Workload, ResponseReceiver, JobId) {
        let (mut workload, job) = (Workload::default(), JobId::random());
        let (sender, receiver) = response_channel(1000);
        workload.begin(job, sender);
        (workload, receiver, job)
    }

    fn chunk(job: JobId, data: &str, status: Option<u16>) -> JobChunk {
        let content_type = status.map(|_| "application/json".to_owned());
        JobChunk { status, content_type, ..JobChunk::new(job, STANDARD.encode(data)) }
    }

    #[actix_rt::test]
    async fn a_head_is_read_from_the_first_chunk_if_it_was_agreed_on() {
        let head = ResponseHead::new(404, "application/json");
        for (agreed, heads) in [(Extensions::all(), vec![ResponsePart::Head(head)]), (Extensions::NONE, vec![])] {
            let (mut workload, mut receiver, job) = active();
            workload.take(&chunk(job, "a", Some(404)), agreed).unwrap();
            workload.take(&chunk(job, "b", Some(500)), agreed).unwrap();
            workload.end(job).unwrap().finish(ResponseEnd::Done(Tokens::default()));
            let mut seen = heads;
            seen.extend(["a", "b"].map(|text| ResponsePart::Chunk(text.into())));
            seen.push(ResponsePart::End(ResponseEnd::Done(Tokens::default())));
            for want in seen {
                assert_eq!(receiver.next().await, want);
            }
        }
    }

    #[test]
    fn offsets_count_the_bytes_of_json_and_binary_chunks() {
        let (mut workload, _receiver, job) = active();
        let binary = |offset| BinaryChunk { job: job.uuid(), offset, bytes: Bytes::from_static(b"xy") };
        workload.take(&chunk(job, "abc", Some(200)), Extensions::all()).unwrap();
        assert_eq!(workload.take_binary(&binary(0)), Err(ChunkError::Violation("chunk at a wrong offset")));
        assert_eq!((workload.take_binary(&binary(3)), workload.take_binary(&binary(5))), (Ok(()), Ok(())));
    }

    #[test]
    fn an_unreadable_chunk_or_a_full_relay_ends_the_job_and_a_chunk_of_an_unknown_job_is_ignored() {
        let (mut workload, _receiver, job) = active();
        let garbled = JobChunk::new(job, "not base64".into());
        assert_eq!(workload.take(&garbled, Extensions::NONE), Err(ChunkError::GiveUp(job, ResponseEnd::Unreadable)));
        let long = chunk(job, &"x".repeat(900), None);
        assert_eq!(workload.take(&long, Extensions::NONE), Ok(()));
        assert_eq!(workload.take(&long, Extensions::NONE), Err(ChunkError::GiveUp(job, ResponseEnd::SlowClient)));
        assert!(workload.forget(job) && !workload.forget(job) && workload.len() == 0);
        assert_eq!(workload.take(&garbled, Extensions::NONE), Ok(()));
    }
}
