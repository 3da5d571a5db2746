//! The `job` frame of a request: its length, which counts before an agent is chosen, and its text for the chosen agent.
//! Used by [`dispatch`](super::dispatch) and the [`roster`](super::roster).

use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::coordinator::api::request::RequestInfo;
use crate::core::json::Members;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::{JobId, ModelId};
use crate::messages::wire::{Extension, Extensions, FromCoordinator, JobFrame, JobTarget};

/// A body of this size or more is encoded on another thread than the one that serves connections, in bytes.
const LARGE: usize = 1 << 20;

/// A request as a job that has no agent yet.
pub(crate) struct JobDraft {
    /// The job's id. Each agent that the request is sent to gets another one.
    pub(crate) job: JobId,
    /// The requested model.
    pub(crate) model: ModelId,
    /// The requested path.
    pub(crate) endpoint: Endpoint,
    form: AnswerForm,
    /// What is left of the time for the request.
    deadline: Duration,
    /// A JSON object that was checked.
    body: Bytes,
}

/// The length of a `job` frame in bytes. Only agents with the extension `endpoints` are sent the path and the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameLength {
    base: usize,
    with_target: usize,
}

impl FrameLength {
    /// The length for an agent with which these extensions were agreed on.
    pub(crate) fn for_agent(self, agreed: Extensions) -> usize {
        if agreed.contains(Extension::Endpoints) { self.with_target } else { self.base }
    }

    /// The same length for every agent.
    #[cfg(test)]
    pub(crate) fn of(length: usize) -> Self {
        Self { base: length, with_target: length }
    }
}

/// The text of a frame can't be made: a bug, because the request was checked.
#[derive(Debug)]
pub(crate) struct NotEncoded;

impl JobDraft {
    /// A draft with an id of its own.
    pub(crate) fn new(request: &RequestInfo, endpoint: Endpoint, body: Bytes, deadline: Duration) -> Self {
        let (job, model, form) = (JobId::random(), request.model.clone(), request.response.form());
        Self { job, model, endpoint, form, deadline, body }
    }

    /// The length of the frame that [`Self::encode`] makes. The body is not encoded for it.
    pub(crate) fn length(&self) -> FrameLength {
        let body = self.body.trim_ascii().len();
        let length = |target| {
            let mut count = Count(0);
            let around = FromCoordinator::Job(self.frame(target, Bytes::from_static(NO_MEMBERS)));
            match serde_json::to_writer(&mut count, &around) {
                Ok(()) => count.0 - NO_MEMBERS.len() + body,
                // A bug. No agent takes such a frame.
                Err(_) => usize::MAX,
            }
        };
        FrameLength { base: length(JobTarget::BASE), with_target: length(self.target()) }
    }

    /// The text of the frame for an agent with which these extensions were agreed on.
    pub(crate) async fn encode(&self, agreed: Extensions) -> Result<String, NotEncoded> {
        let target = if agreed.contains(Extension::Endpoints) { self.target() } else { JobTarget::BASE };
        let frame = self.frame(target, self.body.clone());
        let encode = move || serde_json::to_string(&FromCoordinator::Job(frame)).map_err(|_| NotEncoded);
        if self.body.len() < LARGE {
            return encode();
        }
        actix_web::web::block(encode).await.unwrap_or(Err(NotEncoded))
    }

    fn target(&self) -> JobTarget {
        JobTarget::new(self.endpoint, self.form)
    }

    fn frame(&self, target: JobTarget, request: Bytes) -> JobFrame {
        let (job_id, model_id) = (self.job, self.model.clone());
        let (members, endpoint, deadline) = (Members::default(), self.endpoint, self.deadline);
        JobFrame { job_id, model_id, request, members, endpoint, deadline, target }
    }
}

/// A body in whose place another one is put.
const NO_MEMBERS: &[u8] = b"{}";

/// Counts the bytes that are written to it.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::api::request;

    #[actix_rt::test]
    async fn the_length_is_that_of_the_encoded_frame() {
        let large = format!(r#"{{"model":"m","x":"{}"}}"#, "y".repeat(2 << 20));
        for body in [
            r#"{"model":"m"}"#,
            " \r\n\t{ \"model\" : \"a\\u002fb \\\" ü\" , \"x\":[1e5] } \n",
            r#"{"model":"m","stream":true,"messages":[{"content":"a\nb"}]}"#,
            &large,
        ] {
            for endpoint in Endpoint::ALL {
                let body = Bytes::copy_from_slice(body.as_bytes());
                let request = request::read(&body, endpoint).unwrap();
                let draft = JobDraft::new(&request, endpoint, body, Duration::from_millis(12_345));
                for agreed in [Extensions::NONE, Extensions::all()] {
                    let frame = draft.encode(agreed).await.unwrap();
                    assert_eq!(draft.length().for_agent(agreed), frame.len(), "{endpoint} {agreed}");
                }
            }
        }
    }
}
