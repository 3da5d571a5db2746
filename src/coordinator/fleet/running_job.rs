//! A job that has a slot of an agent: it owns the slot, reads the response, and reports how the job ended. Used by
//! [`dispatch`](super::dispatch) and by the HTTP response.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::demand::Demand;
use super::job_result::JobResult;
use super::response_channel::{PartOrLoss, ResponseEnd, ResponsePart, ResponseReceiver, ResponseSender};
use super::roster::{Assignment, Released};
use crate::coordinator::agents::link::{RunJob, SessionLink};
use crate::coordinator::events::JobAttemptEnded;
use crate::coordinator::state::CoordinatorState;
use crate::messages::ids::JobId;
use crate::messages::wire::{Extension, Tokens};

/// With the extension `resume`: bytes of a response that a client took over are acknowledged when there are so many.
const ACK_BYTES: u64 = 32 << 10;

/// Owns a booked slot. Its drop before the end of the job cancels the job.
pub(crate) struct JobHandle {
    /// The job.
    pub(crate) job: JobId,
    /// The slot.
    pub(crate) slot: Assignment<SessionLink>,
    state: Arc<CoordinatorState>,
    /// When the request got the slot.
    since: Instant,
}

impl JobHandle {
    /// Owns a slot that was booked for this job just now.
    pub(crate) fn new(state: Arc<CoordinatorState>, job: JobId, slot: Assignment<SessionLink>) -> Self {
        state.begin_response();
        Self { job, slot, state, since: Instant::now() }
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        self.state.end_response();
        match self.state.release(self.slot.session, self.job) {
            // The link of the connection that the session has now, which may not be that of the booking.
            Released::Connected(link) => link.cancel(self.job),
            Released::Away => self.slot.link.forget(self.job),
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
    demand: Demand,
    first_byte: Option<Duration>,
    tokens: Tokens,
    /// How the job would end if it ended now.
    result: JobResult,
}

impl RunningJob {
    /// The job of this handle, whose response arrives at the receiver.
    pub(crate) fn new(receiver: ResponseReceiver, handle: JobHandle, until: Instant, demand: Demand) -> Self {
        let (first_byte, tokens, result) = (None, Tokens::default(), JobResult::ClientGone);
        Self { receiver, handle, until, demand, first_byte, tokens, result }
    }

    /// Sends the job to its agent. `false`, and the job has failed, if the agent does not read what it was sent before.
    pub(crate) fn send(&mut self, frame: String, sender: ResponseSender) -> bool {
        let was_sent = self.handle.slot.link.run(RunJob { id: self.handle.job, frame, sender });
        if !was_sent {
            self.result = JobResult::NotSent;
        }
        was_sent
    }

    /// The next part of the response.
    pub(crate) async fn next(&mut self) -> ResponsePart {
        self.acknowledge();
        let next = timeout_at(self.until, self.receiver.next()).await;
        self.seen(next.unwrap_or(ResponsePart::End(ResponseEnd::Deadline)))
    }

    /// The next part, or the loss of the agent's connection if that comes first.
    pub(crate) async fn next_or_away(&mut self) -> PartOrLoss {
        match timeout_at(self.until, self.receiver.next_or_away()).await {
            Ok(PartOrLoss::Part(part)) => PartOrLoss::Part(self.seen(part)),
            Ok(PartOrLoss::AgentAway) => PartOrLoss::AgentAway,
            Err(_) => PartOrLoss::Part(self.seen(ResponsePart::End(ResponseEnd::Deadline))),
        }
    }

    /// The next part. `None` each time that the job has waited so long for an agent that has no connection.
    pub(crate) async fn next_or_waited(&mut self) -> Option<ResponsePart> {
        self.acknowledge();
        let wait = self.handle.state.config.waiting_comments;
        let next = timeout_at(self.until, self.receiver.next_or_waited(wait)).await;
        next.unwrap_or(Some(ResponsePart::End(ResponseEnd::Deadline))).map(|part| self.seen(part))
    }

    /// Has the agent's session acknowledge what was taken over, if it is enough.
    fn acknowledge(&mut self) {
        if self.handle.slot.extensions.contains(Extension::Resume) && self.receiver.owes_acknowledgement(ACK_BYTES) {
            // Not the link of the booking: the session may have another connection by now.
            let link = self.handle.state.link(self.handle.slot.session);
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

    /// Records that the request does not wait for the return of its agent.
    pub(crate) fn give_up_agent(&mut self) {
        self.result = JobResult::AgentLost;
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
            model: self.demand.model.clone(),
            provider: self.handle.slot.provider.clone(),
            endpoint: self.demand.endpoint,
            tokens: self.tokens,
            first_byte: self.first_byte,
            total: self.handle.since.elapsed(),
            result: self.result,
        };
        self.handle.state.events.emit(&ended);
    }
}
