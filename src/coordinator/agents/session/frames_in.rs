//! The frames of an admitted agent, and the jobs that it gets.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{CloseCode, Context, Session, Stage, send};
use crate::coordinator::agents::link::RunJob;
use crate::coordinator::agents::workload::ChunkError;
use crate::coordinator::events::{AgentFrameIgnored, OfferReceived};
use crate::coordinator::fleet::response_channel::ResponseEnd;
use crate::coordinator::fleet::roster::SessionId;
use crate::messages::ids::{JobId, ProviderId};
use crate::messages::wire::{BinaryChunk, Extension, Extensions, FromAgent, FromCoordinator};

/// Models of an offer whose names are logged.
const NAMES: usize = 8;

impl Session {
    pub(super) fn frame(
        &mut self,
        ctx: &mut Context,
        id: SessionId,
        provider: &ProviderId,
        agreed: Extensions,
        frame: FromAgent,
    ) {
        match frame {
            FromAgent::Capabilities(offer) => {
                self.state.events.emit(&OfferReceived {
                    provider: provider.clone(),
                    slots: offer.limits.max_concurrent_total,
                    models: offer.models.len(),
                    names: offer.models.iter().take(NAMES).map(|model| model.model_id.clone()).collect(),
                });
                self.state.roster().offer(id, offer);
            }
            FromAgent::Heartbeat(figures) => self.state.roster().heartbeat(id, figures),
            FromAgent::JobChunk(chunk) => {
                let taken = self.jobs.take(&chunk, agreed);
                self.react(ctx, id, taken);
            }
            FromAgent::JobDone(done) => {
                self.end(id, done.job_id, ResponseEnd::Done(done.tokens));
            }
            FromAgent::JobError(error) => {
                self.end(id, error.job_id, ResponseEnd::Failed { code: error.error_code, message: error.message });
            }
            FromAgent::AuthResponse(_) | FromAgent::Unknown => {
                self.state.events.emit(&AgentFrameIgnored { provider: provider.clone() });
            }
        }
    }

    pub(super) fn accepts_binary(&self) -> bool {
        matches!(self.stage, Stage::Admitted { agreed, .. } if agreed.contains(Extension::Binary))
    }

    pub(super) fn binary(&mut self, ctx: &mut Context, frame: &Bytes) {
        let id = match self.stage {
            Stage::Admitted { id, .. } if self.accepts_binary() => id,
            _ => return self.violation(ctx, CloseCode::Protocol, "unexpected binary message"),
        };
        let chunk = match BinaryChunk::parse(frame) {
            Ok(chunk) => chunk,
            Err(error) => return self.violation(ctx, CloseCode::Protocol, error.as_str()),
        };
        let taken = self.jobs.take_binary(&chunk);
        self.react(ctx, id, taken);
    }

    fn react(&mut self, ctx: &mut Context, id: SessionId, taken: Result<(), ChunkError>) {
        match taken {
            Ok(()) => {}
            Err(ChunkError::GiveUp(job, end)) => self.give_up(ctx, id, job, end),
            Err(ChunkError::Violation(reason)) => self.violation(ctx, CloseCode::Protocol, reason),
        }
    }

    /// Ends a job that the agent may still work on, and cancels it there.
    pub(super) fn give_up(&mut self, ctx: &mut Context, id: SessionId, job_id: JobId, end: ResponseEnd) {
        if self.end(id, job_id, end) {
            send(ctx, &FromCoordinator::JobCancel { job_id });
        }
    }

    /// Ends a job. The slot is freed before the client gets the end, because the client may send its next request at once.
    /// `false` if there is no such job.
    fn end(&mut self, id: SessionId, job: JobId, end: ResponseEnd) -> bool {
        let Some(sender) = self.jobs.end(job) else { return false };
        if matches!(end, ResponseEnd::Done(_)) {
            self.state.complete(id, job);
        } else {
            self.state.release(id, job);
        }
        sender.finish(end);
        true
    }

    pub(super) fn run(&mut self, ctx: &mut Context, job: RunJob) {
        self.unsent.fetch_sub(job.frame.len(), Ordering::Relaxed);
        // Otherwise the sender is dropped, which reports that the job was not sent.
        if matches!(self.stage, Stage::Admitted { .. }) {
            self.jobs.begin(job.id, job.sender);
            ctx.text(job.frame);
        }
    }
}
