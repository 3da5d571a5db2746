//! Sends a request to an agent, and to the next agent if the first one refuses it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::job_frame::{JobDraft, NotEncoded};
use super::job_result::JobResult;
use super::response_channel::{PartOrLoss, ResponseEnd, ResponsePart, ResponseReceiver, response_channel};
use super::roster::{Assignment, NoAgent, Released, SessionId, Wanted};
use crate::coordinator::agents::link::{RunJob, SessionLink};
use crate::coordinator::api::backend_refusal::{BackendRefusal, MAX_REFUSAL};
use crate::coordinator::api::body_reader::Body;
use crate::coordinator::api::errors::{ApiError, Retry};
use crate::coordinator::api::request::RequestInfo;
use crate::coordinator::events::JobAttemptEnded;
use crate::coordinator::state::CoordinatorState;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::{ErrorCode, Extension, Extensions, ResponseHead, Tokens};

/// How often a request is sent again after the connection of its agent was lost.
const MOST_RESENDS: usize = 2;

/// With the extension `resume`: bytes of a response that a client took over are acknowledged when there are so many.
const ACK_BYTES: u64 = 16 << 10;

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
        match self.state.release(self.session, self.job) {
            // The link of the connection that the session has now, which may not be that of the booking.
            Released::Connected(link) => link.cancel(self.job),
            Released::Away => self.link.forget(self.job),
            Released::NotHeld => {}
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
        self.acknowledge();
        let next = tokio::time::timeout_at(self.until, self.receiver.next()).await;
        self.seen(next.unwrap_or(ResponsePart::End(ResponseEnd::Deadline)))
    }

    /// The next part, or the loss of the agent's connection if that comes first.
    async fn next_or_away(&mut self) -> PartOrLoss {
        match tokio::time::timeout_at(self.until, self.receiver.next_or_away()).await {
            Ok(PartOrLoss::Part(part)) => PartOrLoss::Part(self.seen(part)),
            Ok(PartOrLoss::AgentAway) => PartOrLoss::AgentAway,
            Err(_) => PartOrLoss::Part(self.seen(ResponsePart::End(ResponseEnd::Deadline))),
        }
    }

    /// The next part. `None` each time that the job has waited so long for an agent that has no connection.
    pub(crate) async fn next_or_waited(&mut self) -> Option<ResponsePart> {
        self.acknowledge();
        let wait = self.handle.state.config.waiting_comments;
        let next = tokio::time::timeout_at(self.until, self.receiver.next_or_waited(wait)).await;
        next.unwrap_or(Some(ResponsePart::End(ResponseEnd::Deadline))).map(|part| self.seen(part))
    }

    /// Has the agent's session acknowledge what was taken over, if it is enough.
    fn acknowledge(&mut self) {
        if self.handle.extensions.contains(Extension::Resume) && self.receiver.owes_acknowledgement(ACK_BYTES) {
            // Not the link of the booking: the session may have another connection by now.
            let link = self.handle.state.roster().link(self.handle.session);
            if let Some(link) = link {
                link.acknowledge(self.handle.job);
            }
        }
    }

    fn seen(&mut self, next: ResponsePart) -> ResponsePart {
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

/// Starts a job and waits for the first bytes of its response. Only agents that take a frame of its length get it. Before the
/// first bytes, the request goes to the next agent if an agent refuses it or disconnects; if the agent had got the job, only a
/// few times. Each agent gets it once. If there is no other agent, the last failure is returned, unless those that are left are
/// being stopped; but if the session of an agent that disconnected may go on, the job waits for that.
pub(crate) async fn start(
    state: &Arc<CoordinatorState>,
    request: &RequestInfo,
    body: Body,
    endpoint: Endpoint,
) -> Result<StartedJob, ApiError> {
    let deadline = Instant::now() + state.config.job_timeout;
    let mut tried = Vec::new();
    let mut resends = 0;
    let mut failure = None;
    // The next slot, if it was booked because an agent was lost.
    let mut booked = None;
    loop {
        if state.is_stopping() {
            return Err(ApiError::Stopping);
        }
        // Each booking has a draft with an id of its own.
        let new_draft = || {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            JobDraft::new(request, endpoint, body.bytes.clone(), left)
        };
        let (draft, handle) = match booked.take() {
            Some(booked) => booked,
            None => {
                let draft = new_draft();
                match book(state, &draft, &tried) {
                    Ok(handle) => (draft, handle),
                    Err(no_agent) => return Err(not_booked(no_agent, failure, &draft)),
                }
            }
        };
        let session = handle.session;
        tried.push(session);
        let frame = draft.encode(handle.extensions).await?;
        let (sender, receiver) = response_channel(state.config.max_buffered);
        let until = deadline + state.config.deadline_margin;
        let mut running = RunningJob::new(receiver, handle, until, request.model.clone(), endpoint);
        if !running.handle.link.run(RunJob { id: running.handle.job, frame, sender }) {
            running.result = JobResult::NotSent;
            failure = Some(ApiError::Full);
            continue;
        }
        let may_resend = || resends < MOST_RESENDS && Instant::now() < deadline;
        let mut beginning = BeginningJob { running, head: None };
        let error = loop {
            match beginning.begin(may_resend).await {
                Ok(started) => return Ok(started),
                Err(NotBegun::Failed(error)) => break error,
                Err(NotBegun::AgentAway(away)) => {
                    let draft = new_draft();
                    match book(state, &draft, &tried) {
                        Ok(handle) => {
                            booked = Some((draft, handle));
                            break away.give_up();
                        }
                        Err(_) => beginning = *away,
                    }
                }
            }
        };
        if matches!(error, ApiError::Lost { sent: false }) {
            // It did not get the request, so it may get it when it is back.
            tried.retain(|other| *other != session);
        }
        resends += match error.retry() {
            Retry::NotTaken => 0,
            Retry::Lost if may_resend() => 1,
            Retry::Lost | Retry::No => return Err(error),
        };
        failure = Some(error);
    }
}

/// Books a slot for a job, with an agent that takes its frame.
fn book(state: &Arc<CoordinatorState>, draft: &JobDraft, tried: &[SessionId]) -> Result<JobHandle, NoAgent> {
    let JobDraft { job, ref model, endpoint, .. } = *draft;
    let wanted = Wanted { model, endpoint, length: draft.length(), most: state.config.max_job_message };
    let Assignment { session, provider, link, extensions } = state.roster().assign(&wanted, job, tried)?;
    Ok(JobHandle { state: state.clone(), session, provider, link, extensions, job, since: Instant::now() })
}

/// The error of a request that no other agent can get, after this failure of the last one, if there was one.
fn not_booked(no_agent: NoAgent, failure: Option<ApiError>, draft: &JobDraft) -> ApiError {
    let model = || draft.model.clone();
    let error = match no_agent {
        NoAgent::Unknown => ApiError::UnknownModel(model()),
        NoAgent::NotAtEndpoint => ApiError::UnknownPath { model: model(), endpoint: draft.endpoint },
        // The agents that still offer the model are all being stopped, so the last failure does not matter.
        NoAgent::Draining => return ApiError::NotOfferedNow(model()),
        NoAgent::TooLarge { limit, length } => ApiError::MessageTooLarge { length, limit },
        NoAgent::Full => ApiError::Full,
    };
    failure.unwrap_or(error)
}

/// A job that was sent to an agent and of whose response no byte was received.
struct BeginningJob {
    running: RunningJob,
    head: Option<ResponseHead>,
}

/// Why a response has not begun.
enum NotBegun {
    /// It can't.
    Failed(ApiError),
    /// The connection of the agent was lost. The job can wait for its return.
    AgentAway(Box<BeginningJob>),
}

impl BeginningJob {
    /// Waits for the first bytes of a successful response.
    async fn begin(mut self, may_resend: impl Fn() -> bool) -> Result<StartedJob, NotBegun> {
        loop {
            let part = match self.running.next_or_away().await {
                PartOrLoss::AgentAway if may_resend() => return Err(NotBegun::AgentAway(Box::new(self))),
                PartOrLoss::AgentAway => continue,
                PartOrLoss::Part(part) => part,
            };
            match part {
                ResponsePart::Head(given) if given.is_success() => self.head = Some(given),
                ResponsePart::Head(given) => return Err(NotBegun::Failed(refused(self.running, &given).await)),
                ResponsePart::Chunk(first) => {
                    return Ok(StartedJob { running: self.running, head: self.head, first });
                }
                ResponsePart::End(end) => return Err(NotBegun::Failed(ApiError::of(end))),
            }
        }
    }

    /// The request goes to another agent: this job is not wanted any more.
    fn give_up(mut self) -> ApiError {
        self.running.result = JobResult::AgentLost;
        ApiError::Lost { sent: true }
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

/// The request was valid, so this is not the client's fault.
impl From<NotEncoded> for ApiError {
    fn from(_: NotEncoded) -> Self {
        Self::Agent { code: ErrorCode::Internal, message: String::new() }
    }
}
