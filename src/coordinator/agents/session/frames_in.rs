//! The frames of an admitted agent. Frames on a connection that no longer owns its session are ignored.

use std::time::Duration;

use actix::AsyncContext;
use bytes::Bytes;

use super::{Admitted, CloseCode, Context, Session, Stage, send};
use crate::coordinator::agents::workload::{ChunkError, MissingJob};
use crate::coordinator::events::{AgentDraining, AgentFrameIgnored, OfferReceived};
use crate::coordinator::fleet::response_channel::ResponseEnd;
use crate::messages::ids::JobId;
use crate::messages::wire::{BinaryChunk, ErrorCode, Extension, FromAgent, FromCoordinator};

/// Models of an offer whose names are logged.
const NAMES: usize = 8;
/// How long an agent that refuses a job because it is full has no slot for that model, unless one of its jobs ends or it sends
/// an offer.
const FULL_FOR: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn frame(&mut self, ctx: &mut Context, admitted: &Admitted, frame: FromAgent) {
        let Admitted { id, provider, agreed, jobs, .. } = admitted;
        match frame {
            FromAgent::Capabilities(offer) => {
                let received = OfferReceived {
                    provider: provider.clone(),
                    slots: offer.limits.max_concurrent_total,
                    models: offer.models.len(),
                    names: offer.models.iter().take(NAMES).map(|model| model.model_id.clone()).collect(),
                };
                if jobs.with(|_| self.state.offer(*id, offer)).is_some() {
                    self.state.events.emit(&received);
                    self.finish_missing();
                }
            }
            FromAgent::Heartbeat(figures) => {
                jobs.with(|_| self.state.heartbeat(*id, figures));
            }
            FromAgent::JobChunk(chunk) => {
                let taken = jobs.with(|jobs| jobs.take(&chunk, *agreed));
                self.react(ctx, admitted, taken);
            }
            FromAgent::JobDone(done) => {
                self.end(admitted, done.job_id, ResponseEnd::Done(done.tokens));
                self.acknowledge_end(ctx, admitted, done.job_id);
            }
            FromAgent::JobError(error) => {
                let is_full = error.error_code == ErrorCode::OutOfCapacity;
                let end = ResponseEnd::Failed { code: error.error_code, message: error.message };
                if self.end(admitted, error.job_id, end) && is_full {
                    let (id, jobs) = (*id, jobs.clone());
                    ctx.run_later(FULL_FOR, move |session, _| {
                        jobs.with(|_| session.state.forget_refusals(id));
                    });
                }
                self.acknowledge_end(ctx, admitted, error.job_id);
            }
            FromAgent::Drain(notice) if agreed.contains(Extension::Drain) => {
                if jobs.with(|_| self.state.begin_drain(*id)) == Some(true) {
                    let in_flight = notice.in_flight;
                    self.state.events.emit(&AgentDraining { provider: provider.clone(), in_flight });
                }
            }
            FromAgent::AuthResponse(_) | FromAgent::Drain(_) | FromAgent::Unknown => {
                self.state.events.emit(&AgentFrameIgnored { provider: provider.clone() });
            }
        }
    }

    pub(super) fn finish_missing(&mut self) {
        self.missing.drain(..).for_each(MissingJob::finish);
    }

    pub(super) fn accepts_binary(&self) -> bool {
        matches!(&self.stage, Stage::Admitted(admitted) if admitted.agreed.contains(Extension::Binary))
    }

    pub(super) fn binary(&mut self, ctx: &mut Context, frame: &Bytes) {
        let Some(admitted) = self.admitted().filter(|_| self.accepts_binary()) else {
            return self.violation(ctx, CloseCode::Protocol, "unexpected binary message");
        };
        let chunk = match BinaryChunk::parse(frame) {
            Ok(chunk) => chunk,
            Err(error) => return self.violation(ctx, CloseCode::Protocol, error.as_str()),
        };
        let taken = admitted.jobs.with(|jobs| jobs.take_binary(&chunk, admitted.agreed));
        self.react(ctx, &admitted, taken);
    }

    fn react(&mut self, ctx: &mut Context, admitted: &Admitted, taken: Option<Result<(), ChunkError>>) {
        match taken {
            Some(Ok(())) => self.acknowledge_later(ctx, admitted),
            Some(Err(ChunkError::GiveUp(job, end))) => self.give_up(ctx, admitted, job, end),
            Some(Err(ChunkError::Violation(reason))) => self.violation(ctx, CloseCode::Protocol, reason),
            None => {}
        }
    }

    /// Ends a job that the agent may still work on, and cancels it there.
    pub(super) fn give_up(&mut self, ctx: &mut Context, admitted: &Admitted, job_id: JobId, end: ResponseEnd) {
        if self.end(admitted, job_id, end) {
            send(ctx, &FromCoordinator::JobCancel { job_id });
        }
    }

    /// Ends a job. The slot is freed before the client gets the end, because the client may send its next request at once.
    /// `false` if there is no such job.
    fn end(&mut self, admitted: &Admitted, job: JobId, end: ResponseEnd) -> bool {
        let Some(sender) = admitted.jobs.with(|jobs| jobs.end(job)).flatten() else { return false };
        self.state.end(admitted.id, job, &end);
        sender.finish(end);
        true
    }
}
