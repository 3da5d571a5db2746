//! Sends a request to an agent, and to the next one if that one fails before the client has got a byte of the response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::demand::Demand;
use super::job_frame::{JobDraft, NotEncoded};
use super::job_result::JobResult;
use super::response_channel::{PartOrLoss, ResponseEnd, ResponsePart, response_channel};
use super::retry::{Failure, Tries};
use super::roster::{Assignment, NoAgent};
use super::running_job::{JobHandle, RunningJob};
use super::slots::Claim;
use super::wait_outcome::WaitOutcome;
use super::wait_queue::Ticket;
use super::waiting_request::WaitingRequest;
use crate::coordinator::agents::handshake::AgentKey;
use crate::coordinator::agents::link::SessionLink;
use crate::coordinator::agents::peer::Network;
use crate::coordinator::api::backend_refusal::{BackendRefusal, MAX_REFUSAL};
use crate::coordinator::api::body_reader::Body;
use crate::coordinator::api::errors::ApiError;
use crate::coordinator::api::request::RequestInfo;
use crate::coordinator::events::{RequestRetried, WaitEnded};
use crate::coordinator::state::{Claimed, CoordinatorState, NoSlot, WaitEnd};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::JobId;
use crate::messages::wire::{ErrorCode, ResponseHead};

/// A job whose response has begun.
pub(crate) struct StartedJob {
    /// The source of the rest.
    pub(crate) running: RunningJob,
    /// The head of the response, if the agent sent one. Its status is a success.
    pub(crate) head: Option<ResponseHead>,
    /// The first bytes.
    pub(crate) first: Bytes,
}

/// What became of a job of whose response no byte was received.
enum Begun {
    /// The response has begun.
    Here(Box<StartedJob>),
    /// The connection of its agent was lost. The request has the slot of another agent.
    Elsewhere(JobHandle),
}

/// A request on its way to an agent that answers it. It holds the body for further tries until it is dropped.
pub(crate) struct Dispatch {
    state: Arc<CoordinatorState>,
    client: Network,
    draft: JobDraft,
    /// The memory of the draft's body.
    _body: Body,
    /// The deadline of all tries and waits together.
    deadline: Instant,
    /// The failed tries.
    tries: Tries,
    /// The agent that got the request last.
    agent: Option<AgentKey>,
    /// Why the last try failed.
    failure: Option<ApiError>,
    /// How long the request has waited for slots.
    waited: Duration,
    /// Its place in the order of arrival.
    ticket: Ticket,
}

impl Dispatch {
    /// A request that no agent has got yet.
    pub(crate) fn new(
        state: Arc<CoordinatorState>,
        client: Network,
        request: &RequestInfo,
        body: Body,
        endpoint: Endpoint,
    ) -> Self {
        let deadline = Instant::now() + state.config.job_timeout;
        let draft = JobDraft::new(request, endpoint, body.bytes.clone());
        let (ticket, tries) = (state.arrival(), Tries::default());
        let (agent, failure, waited) = (None, None, Duration::ZERO);
        Self { state, client, draft, _body: body, deadline, tries, agent, failure, waited, ticket }
    }

    /// Starts a job and waits for the first bytes of its response. Before these bytes, the request goes to another agent if
    /// an agent fails, as [`Tries`] allows. If there is no other agent, the last failure is returned; but if the session of an
    /// agent that has lost its connection may go on, the job waits for that.
    pub(crate) async fn start(&mut self) -> Result<StartedJob, ApiError> {
        // The next slot, if it was booked because an agent lost its connection.
        let mut booked = None;
        loop {
            let handle = match booked.take() {
                Some(handle) => handle,
                None => self.slot().await?,
            };
            if let Some(cause) = self.tries.last() {
                let (model, provider) = (self.draft.demand.model.clone(), handle.slot.provider.clone());
                self.state.events.emit(&RequestRetried { job: handle.job, model, provider, cause });
            }
            let frame = self.draft.encode(handle.job, self.time(), handle.slot.extensions).await?;
            let (sender, receiver) = response_channel(self.state.config.max_buffered);
            let until = self.deadline + self.state.config.deadline_margin;
            let mut running = RunningJob::new(receiver, handle, until, self.draft.demand.clone());
            if running.send(frame, sender) {
                match self.begin(running).await {
                    Ok(Begun::Here(started)) => return Ok(*started),
                    Ok(Begun::Elsewhere(handle)) => booked = Some(handle),
                    Err(error) => self.failed(error)?,
                }
            } else {
                drop(running);
                self.record(Some(Failure::of(JobResult::NotSent)), ApiError::Full { tried: true })?;
            }
        }
    }

    /// The job that was started last has failed, and the client has got nothing of its response. An error if the request
    /// may not be tried again.
    pub(crate) fn failed(&mut self, error: ApiError) -> Result<(), ApiError> {
        self.record(error.failure(), error)
    }

    fn record(&mut self, failure: Option<Failure>, error: ApiError) -> Result<(), ApiError> {
        let in_time = self.is_in_time();
        match (failure, self.agent) {
            (Some(failure), Some(agent)) if self.tries.record(agent, failure, in_time) => {
                self.failure = Some(error);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn is_in_time(&self) -> bool {
        Instant::now() < self.deadline
    }

    /// What is left for a job.
    fn time(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    /// Waits for the first bytes of a successful response. If the agent loses its connection before them, the request moves to
    /// another agent that has a slot at once; if there is none, it waits for the return of its agent.
    async fn begin(&mut self, mut running: RunningJob) -> Result<Begun, ApiError> {
        let mut head = None;
        loop {
            let part = match running.next_or_away().await {
                PartOrLoss::Part(part) => part,
                PartOrLoss::AgentAway => match self.elsewhere() {
                    Some(handle) => {
                        running.give_up_agent();
                        return Ok(Begun::Elsewhere(handle));
                    }
                    None => continue,
                },
            };
            match part {
                ResponsePart::Head(given) if given.is_success() => head = Some(given),
                ResponsePart::Head(given) => return Err(refused(running, &given).await),
                ResponsePart::Chunk(first) => {
                    return Ok(Begun::Here(Box::new(StartedJob { running, head, first })));
                }
                ResponsePart::End(end) => return Err(ApiError::of(end)),
            }
        }
    }

    /// Books a slot of another agent for a request whose agent has no connection. `None`, and nothing is recorded, if the request
    /// may not be tried again or there is no slot.
    fn elsewhere(&mut self) -> Option<JobHandle> {
        let mut tries = self.tries.clone();
        let (agent, error) = (self.agent?, ApiError::LOST);
        if !tries.record(agent, error.failure()?, self.is_in_time()) {
            return None;
        }
        let job = JobId::random();
        let claim = Claim { tries: &tries, ..self.claim(job) };
        let Ok(Claimed::Slot(slot)) = self.state.claim(claim, false) else { return None };
        self.tries = tries;
        self.failure = Some(error);
        Some(self.own(job, slot))
    }

    fn own(&mut self, job: JobId, slot: Assignment<SessionLink>) -> JobHandle {
        self.agent = Some(slot.key);
        JobHandle::new(self.state.clone(), job, slot)
    }

    fn claim(&self, job: JobId) -> Claim<'_> {
        let (length, tries) = (self.draft.length(self.time()), &self.tries);
        Claim { client: self.client, demand: &self.draft.demand, length, job, tries, ticket: self.ticket }
    }

    /// Books a slot, and waits for one if all agents are full or have lost their connection.
    async fn slot(&mut self) -> Result<JobHandle, ApiError> {
        loop {
            let job = JobId::random();
            let time = self.state.config.queue_time.saturating_sub(self.waited);
            let slot = match self.state.claim(self.claim(job), !time.is_zero()) {
                Ok(Claimed::Slot(slot)) => slot,
                Ok(Claimed::Waits { place, end }) => {
                    let since = Instant::now();
                    let waiting = WaitingRequest::new(self.state.clone(), place, self.draft.demand.clone(), job, end);
                    let end = waiting.end((since + time).min(self.deadline)).await;
                    self.waited += since.elapsed();
                    match end {
                        Some(WaitEnd::Slot(slot)) => slot,
                        Some(WaitEnd::Displaced) => return Err(self.queue_full()),
                        Some(WaitEnd::Stopping) => return Err(ApiError::Stopping),
                        // The next claim finds out what there is instead of a slot.
                        Some(WaitEnd::Draining) => continue,
                        None => {
                            self.waited = self.state.config.queue_time;
                            continue;
                        }
                    }
                }
                Err(NoSlot::Stopping) => return Err(ApiError::Stopping),
                Err(NoSlot::QueueFull) => {
                    let Demand { model, endpoint } = self.draft.demand.clone();
                    let (outcome, waited) = (WaitOutcome::QueueFull, Duration::ZERO);
                    self.state.events.emit(&WaitEnded { model, endpoint, outcome, waited });
                    return Err(self.queue_full());
                }
                Err(NoSlot::NoAgent(no_agent)) => return Err(self.no_agent(no_agent)),
            };
            return Ok(self.own(job, slot));
        }
    }

    fn queue_full(&self) -> ApiError {
        ApiError::QueueFull { tried: self.failure.is_some() }
    }

    fn no_agent(&mut self, no_agent: NoAgent) -> ApiError {
        let Demand { model, endpoint } = self.draft.demand.clone();
        match (no_agent, self.failure.take()) {
            (NoAgent::Full, failure) => ApiError::Full { tried: failure.is_some() },
            (NoAgent::Draining | NoAgent::Away, failure) => ApiError::NotOfferedNow { model, tried: failure.is_some() },
            (_, Some(failure)) => failure,
            (NoAgent::TooLarge { limit, length }, None) => ApiError::MessageTooLarge { length, limit },
            (NoAgent::NotAtEndpoint, None) => ApiError::UnknownPath { model, endpoint },
            // An agent that has failed the request leaves a failure.
            (NoAgent::Unknown | NoAgent::Tried, None) => ApiError::UnknownModel(model),
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

/// The request was valid, so this is not the client's fault.
impl From<NotEncoded> for ApiError {
    fn from(_: NotEncoded) -> Self {
        Self::Agent { code: ErrorCode::Internal, message: String::new() }
    }
}
