//! The jobs that a session's agent holds, and their answers as they come. No sockets: the session drives it.
//!
//! Where the extension `endpoints` was agreed on, a job's first chunk may carry the head of the response; a head
//! anywhere else is passed over. With `binary` too that first chunk still is a `job_chunk` of JSON, and its bytes count for
//! the offsets of the binary chunks behind it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::coordinator::fleet::relay::{End, NotTaken, Outlet};
use crate::messages::ids::JobId;
use crate::messages::wire::{BinaryChunk, Extension, Extensions, JobChunk, ResponseHead};

/// A job that the agent was given and has not ended.
struct AtWork {
    outlet: Outlet,
    /// Bytes of its answer that have come.
    received: u64,
    /// A chunk has come.
    begun: bool,
}

/// Jobs at work. Dropping it tells their clients that they are lost.
#[derive(Default)]
pub(crate) struct Workload(HashMap<JobId, AtWork>);

/// What is to be done about a chunk that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// The job is to be ended like this, and cancelled.
    GiveUp(JobId, End),
    /// The agent breaks the protocol.
    Violation(&'static str),
}

impl Workload {
    /// A job is being sent.
    pub(crate) fn begin(&mut self, job: JobId, outlet: Outlet) {
        outlet.mark_sent();
        self.0.insert(job, AtWork { outlet, received: 0, begun: false });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Lets all go: their clients are told that they are lost.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Lets a job go that nobody wants any more. `false` if there is no such job.
    pub(crate) fn forget(&mut self, job: JobId) -> bool {
        self.0.remove(&job).is_some()
    }

    /// A job has ended: the way to its client, who is yet to be told.
    pub(crate) fn end(&mut self, job: JobId) -> Option<Outlet> {
        self.0.remove(&job).map(|at_work| at_work.outlet)
    }

    /// Takes a chunk of text. One of a job that is not known is passed over: its cancel may have crossed it.
    pub(crate) fn take(&mut self, chunk: &JobChunk, agreed: Extensions) -> Result<(), ChunkError> {
        let job = chunk.job_id;
        let Some(at_work) = self.0.get_mut(&job) else { return Ok(()) };
        let Ok(bytes) = STANDARD.decode(&chunk.data) else { return Err(ChunkError::GiveUp(job, End::Garbled)) };
        let head = ResponseHead::of(chunk).filter(|_| !at_work.begun && agreed.contains(Extension::Endpoints));
        if let Some(head) = head {
            at_work.outlet.begin(head);
        }
        at_work.pass_on(job, bytes.into())
    }

    /// Takes a binary chunk. Likewise.
    pub(crate) fn take_binary(&mut self, chunk: &BinaryChunk) -> Result<(), ChunkError> {
        let job = JobId::from(chunk.job);
        let Some(at_work) = self.0.get_mut(&job) else { return Ok(()) };
        if chunk.offset != at_work.received {
            return Err(ChunkError::Violation("chunk at a wrong offset"));
        }
        // A copy: a few bytes that wait for a slow client shall not keep the buffer they were read into.
        at_work.pass_on(job, Bytes::copy_from_slice(&chunk.bytes))
    }
}

impl AtWork {
    fn pass_on(&mut self, job: JobId, bytes: Bytes) -> Result<(), ChunkError> {
        self.begun = true;
        self.received += bytes.len() as u64;
        match self.outlet.push(bytes) {
            // Gone: the cancel is on its way, since what reads the relay also holds the handle.
            Ok(()) | Err(NotTaken::Gone) => Ok(()),
            Err(NotTaken::Full) => Err(ChunkError::GiveUp(job, End::Overflowed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::fleet::relay::{Inlet, Relayed, relay};

    fn at_work() -> (Workload, Inlet, JobId) {
        let (mut workload, job) = (Workload::default(), JobId::random());
        let (outlet, inlet) = relay(1000);
        workload.begin(job, outlet);
        (workload, inlet, job)
    }

    fn chunk(job: JobId, data: &str, status: Option<u16>) -> JobChunk {
        let content_type = status.map(|_| "application/json".to_owned());
        JobChunk { status, content_type, ..JobChunk::new(job, STANDARD.encode(data)) }
    }

    #[actix_rt::test]
    async fn a_head_is_taken_from_the_first_chunk_where_it_was_agreed_on() {
        let head = ResponseHead::new(404, "application/json");
        for (agreed, heads) in [(Extensions::all(), vec![Relayed::Head(head)]), (Extensions::NONE, vec![])] {
            let (mut workload, mut inlet, job) = at_work();
            workload.take(&chunk(job, "a", Some(404)), agreed).unwrap();
            workload.take(&chunk(job, "b", Some(500)), agreed).unwrap();
            workload.end(job).unwrap().finish(End::Done);
            let mut seen = heads;
            seen.extend(["a", "b"].map(|text| Relayed::Chunk(text.into())));
            seen.push(Relayed::End(End::Done));
            for want in seen {
                assert_eq!(inlet.next().await, want);
            }
        }
    }

    #[test]
    fn offsets_count_the_bytes_of_either_form() {
        let (mut workload, _inlet, job) = at_work();
        let binary = |offset| BinaryChunk { job: job.uuid(), offset, bytes: Bytes::from_static(b"xy") };
        workload.take(&chunk(job, "abc", Some(200)), Extensions::all()).unwrap();
        assert_eq!(workload.take_binary(&binary(0)), Err(ChunkError::Violation("chunk at a wrong offset")));
        assert_eq!((workload.take_binary(&binary(3)), workload.take_binary(&binary(5))), (Ok(()), Ok(())));
    }

    #[test]
    fn what_can_not_be_read_or_kept_ends_its_job_and_what_is_nobodys_is_passed_over() {
        let (mut workload, _inlet, job) = at_work();
        let garbled = JobChunk::new(job, "not base64".into());
        assert_eq!(workload.take(&garbled, Extensions::NONE), Err(ChunkError::GiveUp(job, End::Garbled)));
        let long = chunk(job, &"x".repeat(900), None);
        assert_eq!(workload.take(&long, Extensions::NONE), Ok(()));
        assert_eq!(workload.take(&long, Extensions::NONE), Err(ChunkError::GiveUp(job, End::Overflowed)));
        assert!(workload.forget(job) && !workload.forget(job) && workload.len() == 0);
        assert_eq!(workload.take(&garbled, Extensions::NONE), Ok(()));
    }
}
