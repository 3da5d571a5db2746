//! Finds an agent for a request, and the next one if the first refuses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::relay::{End, Inlet, Relayed, relay};
use super::roster::{Assignment, NoAgent, SessionId};
use crate::coordinator::agents::link::{Link, RunJob};
use crate::coordinator::api::backend_refusal::{BackendRefusal, MAX_REFUSAL};
use crate::coordinator::api::errors::{ApiError, Retry};
use crate::coordinator::api::intake::Body;
use crate::coordinator::api::request::Asked;
use crate::coordinator::state::CoordinatorState;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::json::Members;
use crate::messages::wire::{ErrorCode, Extension, Extensions, FromCoordinator, JobFrame, JobTarget, ResponseHead};

/// A body from here on is made a frame off the thread that serves connections.
const LARGE: usize = 1 << 20;

/// How often a request is sent again after it was lost with its agent.
const MOST_RESENDS: usize = 2;

/// A booked slot. Dropped before the job's end it cancels the job.
struct JobHandle {
    state: Arc<CoordinatorState>,
    session: SessionId,
    provider: ProviderId,
    link: Link,
    /// What was agreed on with the agent.
    extensions: Extensions,
    job: JobId,
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.state.release(self.session, self.job) {
            self.link.cancel(self.job);
        }
    }
}

/// A job at work. Dropping it is how a client that went away cancels.
pub(crate) struct Running {
    inlet: Inlet,
    handle: JobHandle,
    /// When to wait no longer.
    until: Instant,
}

impl Running {
    /// What comes next of the answer.
    pub(crate) async fn next(&mut self) -> Relayed {
        let next = tokio::time::timeout_at(self.until, self.inlet.next()).await;
        let next = next.unwrap_or(Relayed::End(End::Late));
        if let Relayed::End(end) = &next {
            self.log(end);
        }
        next
    }

    fn log(&self, end: &End) {
        let (provider, job) = (&self.handle.provider, self.handle.job);
        match end {
            End::Done => log::debug!("job done provider={provider} job={job}"),
            End::Failed { code, .. } => log::info!("job failed provider={provider} job={job} code={code}"),
            End::Overflowed => log::warn!("job cancelled provider={provider} job={job} cause=slow_client"),
            End::Garbled => log::warn!("job cancelled provider={provider} job={job} cause=unreadable_chunk"),
            End::Unsent => log::info!("job not sent provider={provider} job={job} cause=agent_gone"),
            End::Lost => log::warn!("job lost provider={provider} job={job} cause=agent_gone"),
            End::Late => log::warn!("job cancelled provider={provider} job={job} cause=deadline"),
        }
    }
}

/// A job whose answer has begun.
pub(crate) struct Started {
    /// Where the rest of it comes from.
    pub(crate) running: Running,
    /// The head of the response, where the agent tells it: that of a success.
    pub(crate) head: Option<ResponseHead>,
    /// The first bytes.
    pub(crate) first: Bytes,
}

/// Starts a job and waits for the first bytes of its answer. Until they come it goes to the next agent where one refuses it,
/// is gone before it was sent, or is lost with it, the latter a few times; to each agent once. If there is no other, the last
/// failure is the answer.
pub(crate) async fn start(state: &Arc<CoordinatorState>, asked: &Asked, body: Body, endpoint: Endpoint) -> Result<Started, ApiError> {
    let limit = state.config.max_job_message;
    let deadline = Instant::now() + state.config.job_deadline;
    let mut tried = Vec::new();
    let mut resends = 0;
    let mut failure = None;
    loop {
        if state.is_stopping() {
            return Err(ApiError::Stopping);
        }
        let handle = match book(state, &asked.model, endpoint, &tried) {
            Ok(handle) => handle,
            Err(no_agent) => {
                return Err(failure.unwrap_or_else(|| match no_agent {
                    NoAgent::Unknown => ApiError::UnknownModel(asked.model.clone()),
                    NoAgent::NotAtEndpoint => ApiError::UnknownPath { model: asked.model.clone(), endpoint },
                    NoAgent::Full => ApiError::Full,
                }));
            }
        };
        tried.push(handle.session);
        let frame = JobFrame {
            members: Members::default(),
            job_id: handle.job,
            model_id: asked.model.clone(),
            request: body.bytes.clone(),
            endpoint,
            deadline: deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
            target: target(handle.extensions, endpoint, asked.answer.form()),
        };
        let frame = encode(frame).await?;
        if frame.len() > limit {
            return Err(ApiError::MessageTooLarge { length: frame.len(), limit });
        }
        let (outlet, inlet) = relay(state.config.max_buffered);
        if !handle.link.run(RunJob { id: handle.job, frame, outlet }) {
            failure = Some(ApiError::Full);
            continue;
        }
        let running = Running { inlet, handle, until: deadline + state.config.deadline_margin };
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

/// What an agent is told of the path and the form: nothing, where it knows of neither.
fn target(agreed: Extensions, endpoint: Endpoint, form: AnswerForm) -> JobTarget {
    if agreed.contains(Extension::Endpoints) { JobTarget::new(endpoint, form) } else { JobTarget::BASE }
}

fn book(state: &Arc<CoordinatorState>, model: &ModelId, endpoint: Endpoint, tried: &[SessionId]) -> Result<JobHandle, NoAgent> {
    let job = JobId::random();
    let Assignment { session, provider, link, extensions } = state.roster().assign(model, endpoint, job, tried)?;
    Ok(JobHandle { state: state.clone(), session, provider, link, extensions, job })
}

/// Waits for the first bytes of a good answer.
async fn begin(mut running: Running) -> Result<Started, ApiError> {
    let mut head = None;
    loop {
        match running.next().await {
            Relayed::Head(given) if given.is_success() => head = Some(given),
            Relayed::Head(given) => return Err(refused(running, &given).await),
            Relayed::Chunk(first) => return Ok(Started { running, head, first }),
            Relayed::End(end) => return Err(ApiError::of(end)),
        }
    }
}

/// A response that is no success: its words, for the client if the request is at fault.
async fn refused(mut running: Running, head: &ResponseHead) -> ApiError {
    let mut body = Vec::new();
    loop {
        match running.next().await {
            Relayed::Head(_) => {}
            Relayed::Chunk(chunk) => {
                let room = MAX_REFUSAL - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
            Relayed::End(End::Failed { code, message }) => {
                let refusal = BackendRefusal::of(head, body, code);
                return refusal.map_or(ApiError::Agent { code, message }, ApiError::Backend);
            }
            Relayed::End(end) => return ApiError::of(end),
        }
    }
}

async fn encode(job: JobFrame) -> Result<String, ApiError> {
    let large = job.request.len() >= LARGE;
    let encode = move || serde_json::to_string(&FromCoordinator::Job(job));
    let encoded = if large { actix_web::web::block(encode).await.ok() } else { Some(encode()) };
    // The request was read before, so that this is no fault of the client's.
    let internal = || ApiError::Agent { code: ErrorCode::Internal, message: String::new() };
    encoded.and_then(Result::ok).ok_or_else(internal)
}
