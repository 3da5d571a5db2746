//! Sends a request to an agent, and to the next agent if the first one refuses it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::job_result::JobResult;
use super::response_channel::{ResponseEnd, ResponsePart, ResponseReceiver, response_channel};
use super::roster::{Assignment, NoAgent, SessionId};
use crate::coordinator::agents::link::{RunJob, SessionLink};
use crate::coordinator::api::backend_refusal::{BackendRefusal, MAX_REFUSAL};
use crate::coordinator::api::body_reader::Body;
use crate::coordinator::api::errors::{ApiError, Retry};
use crate::coordinator::api::request::RequestInfo;
use crate::coordinator::events::JobAttemptEnded;
use crate::coordinator::state::CoordinatorState;
use crate::core::json::Members;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::{
    ErrorCode, Extension, Extensions, FromCoordinator, JobFrame, JobTarget, ResponseHead, Tokens,
};

/// A body of this size or more is encoded on another thread than the one that serves connections, in bytes.
const LARGE: usize = 1 << 20;

/// How often a request is sent again after the connection of its agent was lost.
const MOST_RESENDS: usize = 2;

/// Owns a booked slot. Its drop before the end of the job cancels the job.
struct JobHandle {
    state: Arc<CoordinatorState>,
    session: SessionId,
    provider: ProviderId,
    link: SessionLink,
    /// The extensions that were agreed on with the agent.
    extensions: Extensions,
    job: JobId,
    /// When the slot was booked.
    since: Instant,
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.state.release(self.session, self.job) {
            self.link.cancel(self.job);
        }
    }
}

/// A job that was sent to an agent. Its drop reports its end; before the end of the response it also cancels the job, which
/// is what happens when a client ends its connection.
pub(crate) struct RunningJob {
    receiver: ResponseReceiver,
    handle: JobHandle,
    /// When to stop waiting for the agent.
    until: Instant,
    model: ModelId,
    endpoint: Endpoint,
    first_byte: Option<Duration>,
    tokens: Tokens,
    /// How the job would end if it ended now.
    result: JobResult,
}

impl RunningJob {
    fn new(receiver: ResponseReceiver, handle: JobHandle, until: Instant, model: ModelId, endpoint: Endpoint) -> Self {
        let (first_byte, tokens, result) = (None, Tokens::default(), JobResult::ClientGone);
        Self { receiver, handle, until, model, endpoint, first_byte, tokens, result }
    }

    /// The next part of the response.
    pub(crate) async fn next(&mut self) -> ResponsePart {
        let next = tokio::time::timeout_at(self.until, self.receiver.next()).await;
        let next = next.unwrap_or(ResponsePart::End(ResponseEnd::Deadline));
        match &next {
            ResponsePart::Head(_) => {}
            ResponsePart::Chunk(_) => {
                self.first_byte.get_or_insert_with(|| self.handle.since.elapsed());
            }
            ResponsePart::End(end) => {
                self.result = JobResult::of(end);
                if let ResponseEnd::Done(tokens) = end {
                    self.tokens = *tokens;
                }
            }
        }
        next
    }

    /// Records that the coordinator can't read the response, unless the job has ended with another failure.
    pub(crate) fn reject_response(&mut self) {
        if matches!(self.result, JobResult::ClientGone | JobResult::Done) {
            self.result = JobResult::UnreadableResponse;
        }
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let ended = JobAttemptEnded {
            job: self.handle.job,
            model: self.model.clone(),
            provider: self.handle.provider.clone(),
            endpoint: self.endpoint,
            tokens: self.tokens,
            first_byte: self.first_byte,
            total: self.handle.since.elapsed(),
            result: self.result,
        };
        self.handle.state.events.emit(&ended);
    }
}

/// A job whose response has begun.
pub(crate) struct StartedJob {
    /// The source of the rest.
    pub(crate) running: RunningJob,
    /// The head of the response, if the agent sent one. Its status is a success.
    pub(crate) head: Option<ResponseHead>,
    /// The first bytes.
    pub(crate) first: Bytes,
}

/// Starts a job and waits for the first bytes of its response. Before these bytes, the request goes to the next agent if an
/// agent refuses it or disconnects; if the agent had got the job, only a few times. Each agent gets it once. If there is no
/// other agent, the last failure is returned.
pub(crate) async fn start(
    state: &Arc<CoordinatorState>,
    request: &RequestInfo,
    body: Body,
    endpoint: Endpoint,
) -> Result<StartedJob, ApiError> {
    let limit = state.config.max_job_message;
    let deadline = Instant::now() + state.config.job_timeout;
    let mut tried = Vec::new();
    let mut resends = 0;
    let mut failure = None;
    loop {
        if state.is_stopping() {
            return Err(ApiError::Stopping);
        }
        let handle = match book(state, &request.model, endpoint, &tried) {
            Ok(handle) => handle,
            Err(no_agent) => {
                return Err(failure.unwrap_or_else(|| match no_agent {
                    NoAgent::Unknown => ApiError::UnknownModel(request.model.clone()),
                    NoAgent::NotAtEndpoint => ApiError::UnknownPath { model: request.model.clone(), endpoint },
                    NoAgent::Full => ApiError::Full,
                }));
            }
        };
        tried.push(handle.session);
        let frame = JobFrame {
            members: Members::default(),
            job_id: handle.job,
            model_id: request.model.clone(),
            request: body.bytes.clone(),
            endpoint,
            deadline: deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
            target: target(handle.extensions, endpoint, request.response.form()),
        };
        let frame = encode(frame).await?;
        if frame.len() > limit {
            return Err(ApiError::MessageTooLarge { length: frame.len(), limit });
        }
        let (sender, receiver) = response_channel(state.config.max_buffered);
        let until = deadline + state.config.deadline_margin;
        let mut running = RunningJob::new(receiver, handle, until, request.model.clone(), endpoint);
        if !running.handle.link.run(RunJob { id: running.handle.job, frame, sender }) {
            running.result = JobResult::NotSent;
            failure = Some(ApiError::Full);
            continue;
        }
        let error = match begin(running).await {
            Ok(started) => return Ok(started),
            Err(error) => error,
        };
        resends += match error.retry() {
            Retry::NotTaken => 0,
            Retry::Lost if resends < MOST_RESENDS && Instant::now() < deadline => 1,
            Retry::Lost | Retry::No => return Err(error),
        };
        failure = Some(error);
    }
}

/// The path and the form for the `job` frame. Agents without the extension `endpoints` get neither.
fn target(agreed: Extensions, endpoint: Endpoint, form: AnswerForm) -> JobTarget {
    if agreed.contains(Extension::Endpoints) { JobTarget::new(endpoint, form) } else { JobTarget::BASE }
}

fn book(
    state: &Arc<CoordinatorState>,
    model: &ModelId,
    endpoint: Endpoint,
    tried: &[SessionId],
) -> Result<JobHandle, NoAgent> {
    let job = JobId::random();
    let Assignment { session, provider, link, extensions } = state.roster().assign(model, endpoint, job, tried)?;
    Ok(JobHandle { state: state.clone(), session, provider, link, extensions, job, since: Instant::now() })
}

/// Waits for the first bytes of a successful response.
async fn begin(mut running: RunningJob) -> Result<StartedJob, ApiError> {
    let mut head = None;
    loop {
        match running.next().await {
            ResponsePart::Head(given) if given.is_success() => head = Some(given),
            ResponsePart::Head(given) => return Err(refused(running, &given).await),
            ResponsePart::Chunk(first) => return Ok(StartedJob { running, head, first }),
            ResponsePart::End(end) => return Err(ApiError::of(end)),
        }
    }
}

/// Reads the body of an error response. The client gets it if the status blames the request.
async fn refused(mut running: RunningJob, head: &ResponseHead) -> ApiError {
    let mut body = Vec::new();
    loop {
        match running.next().await {
            ResponsePart::Head(_) => {}
            ResponsePart::Chunk(chunk) => {
                let room = MAX_REFUSAL - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
            ResponsePart::End(ResponseEnd::Failed { code, message }) => {
                let refusal = BackendRefusal::of(head, body, code);
                return refusal.map_or(ApiError::Agent { code, message }, ApiError::Backend);
            }
            ResponsePart::End(end) => return ApiError::of(end),
        }
    }
}

async fn encode(job: JobFrame) -> Result<String, ApiError> {
    let large = job.request.len() >= LARGE;
    let encode = move || serde_json::to_string(&FromCoordinator::Job(job));
    let encoded = if large { actix_web::web::block(encode).await.ok() } else { Some(encode()) };
    // The request was valid, so this is not the client's fault.
    let internal = || ApiError::Agent { code: ErrorCode::Internal, message: String::new() };
    encoded.and_then(Result::ok).ok_or_else(internal)
}
