//! The `job` frame of a request: its length, which counts before an agent is chosen, and its text for the chosen agent.
//! Used by [`dispatch`](super::dispatch) and the [`roster`](super::roster).

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::demand::{Demand, FrameLength};
use crate::coordinator::api::request::RequestInfo;
use crate::core::json::Members;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::JobId;
use crate::messages::wire::{Extension, Extensions, FromCoordinator, JobFrame, JobTarget};

/// A body of this size or more is encoded on another thread than the one that serves connections, in bytes.
const LARGE: usize = 1 << 20;

/// A request of which jobs are made: one for each agent that it is sent to.
pub(crate) struct JobDraft {
    /// What it needs of an agent.
    pub(crate) demand: Demand,
    form: AnswerForm,
    /// A JSON object that was checked.
    body: Bytes,
}

/// The text of a frame can't be made: a bug, because the request was checked.
#[derive(Debug)]
pub(crate) struct NotEncoded;

impl JobDraft {
    /// The draft of a request at this path.
    pub(crate) fn new(request: &RequestInfo, endpoint: Endpoint, body: Bytes) -> Self {
        Self { demand: Demand { model: request.model.clone(), endpoint }, form: request.response.form(), body }
    }

    /// The length of the frame that [`Self::encode`] makes for a job with so much time. With less time it is not longer. The
    /// body is not encoded for it.
    pub(crate) fn length(&self, time: Duration) -> FrameLength {
        let body = self.body.trim_ascii().len();
        let length = |target| {
            let mut count = Count(0);
            // All ids are of the same length.
            let around = self.frame(JobId::random(), time, target, Bytes::from_static(NO_MEMBERS));
            match serde_json::to_writer(&mut count, &around) {
                Ok(()) => count.0 - NO_MEMBERS.len() + body,
                // A bug. No agent takes such a frame.
                Err(_) => usize::MAX,
            }
        };
        FrameLength { base: length(JobTarget::BASE), with_target: length(self.target()) }
    }

    /// The text of the frame for a job with so much time, and an agent with which these extensions were agreed on.
    pub(crate) async fn encode(&self, job: JobId, time: Duration, agreed: Extensions) -> Result<String, NotEncoded> {
        let target = if agreed.contains(Extension::Endpoints) { self.target() } else { JobTarget::BASE };
        let frame = self.frame(job, time, target, self.body.clone());
        let encode = move || serde_json::to_string(&frame).map_err(|_| NotEncoded);
        if self.body.len() < LARGE {
            return encode();
        }
        actix_web::web::block(encode).await.unwrap_or(Err(NotEncoded))
    }

    fn target(&self) -> JobTarget {
        JobTarget::new(self.demand.endpoint, self.form)
    }

    fn frame(&self, job_id: JobId, deadline: Duration, target: JobTarget, request: Bytes) -> FromCoordinator {
        let Demand { model, endpoint } = self.demand.clone();
        let members = Members::default();
        FromCoordinator::Job(JobFrame { job_id, model_id: model, request, members, endpoint, deadline, target })
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
                let (draft, time) = (JobDraft::new(&request, endpoint, body), Duration::from_millis(12_345));
                for agreed in [Extensions::NONE, Extensions::all()] {
                    let frame = draft.encode(JobId::random(), time, agreed).await.unwrap();
                    assert_eq!(draft.length(time).for_agent(agreed), frame.len(), "{endpoint} {agreed}");
                }
            }
        }
    }
}
