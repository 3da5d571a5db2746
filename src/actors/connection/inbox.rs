//! Parses the frames of an authenticated connection and passes jobs and cancels to the router.

use actix::prelude::*;
use bytes::Bytes;
use tokio::time::Instant;

use crate::actors::messages::RouterInputs;
use crate::core::session::frames::FrameError;
use crate::messages::ids::Generation;
use crate::messages::jobs::{Acknowledged, CancelJob, Job, SubmitJob, SubmitReply};
use crate::messages::lifecycle::HandoverAnnounced;
use crate::messages::untrusted::Label;
use crate::messages::wire::{Extension, Extensions, FromAgent, FromCoordinator, JobFrame, MalformedJob};
use crate::telemetry::Events;
use crate::telemetry::events::{FrameSkipped, SkipCause};
use crate::transport::websocket::pump::Inbox;

/// Frames above this are parsed off the arbiter.
const LARGE: usize = 1024 * 1024;

/// Parses the frames that arrive after the handshake and passes them to the router.
pub(super) struct JobInbox {
    pub(super) generation: Generation,
    pub(super) agreed: Extensions,
    pub(super) events: Events,
    pub(super) router: RouterInputs,
    pub(super) handovers: Recipient<HandoverAnnounced>,
}

impl JobInbox {
    fn skip(&self, cause: SkipCause) {
        self.events.emit(FrameSkipped { cause });
    }

    /// The refusal to send, if the job is refused. Without a router there is none, and no connection for long.
    async fn submit(&self, job: Result<Job, MalformedJob>) -> Option<FromAgent> {
        let id = job.as_ref().map_or_else(|malformed| malformed.job_id, |job| job.id);
        match self.router.jobs.send(SubmitJob { generation: self.generation, job }).await {
            Ok(SubmitReply::Refused(error)) => Some(FromAgent::JobError(error)),
            Ok(SubmitReply::AlreadyRuns) => {
                self.skip(SkipCause::JobRuns(id));
                None
            }
            Ok(SubmitReply::AlreadyEnded) => {
                self.skip(SkipCause::JobEnded(id));
                None
            }
            Ok(SubmitReply::Nothing) | Err(_) => None,
        }
    }
}

impl Inbox for JobInbox {
    async fn text(&mut self, frame: Bytes) -> Option<FromAgent> {
        let received = Instant::now().into_std();
        match parse(frame).await {
            Ok(FromCoordinator::Job(frame)) => return self.submit(job_of(frame, received, self.agreed)).await,
            Ok(FromCoordinator::MalformedJob(malformed)) => return self.submit(Err(malformed)).await,
            Ok(FromCoordinator::JobCancel { job_id }) => {
                // Awaited, so that whatever is read after it is answered after the job has fallen silent. Without a router
                // there is no job either.
                let _ = self.router.cancels.send(CancelJob { generation: self.generation, job: job_id }).await;
            }
            Ok(FromCoordinator::Ack { job_id: job, taken }) if self.agreed.contains(Extension::Resume) => {
                let _ = self.router.acks.send(Acknowledged { generation: self.generation, job, taken }).await;
            }
            Ok(FromCoordinator::Handover { deadline }) if self.agreed.contains(Extension::Handover) => match deadline {
                Some(deadline) => {
                    self.handovers.do_send(HandoverAnnounced { generation: self.generation, deadline });
                }
                None => self.skip(SkipCause::HandoverDeadline),
            },
            Ok(FromCoordinator::Ack { .. } | FromCoordinator::Handover { .. }) => {
                log::debug!("frame of an extension that was not agreed on ignored");
            }
            Ok(FromCoordinator::Unknown { kind }) => {
                log::debug!("frame of an unknown type ignored type={}", Label(&kind));
            }
            Ok(
                FromCoordinator::AuthChallenge { .. } | FromCoordinator::AuthOk(_) | FromCoordinator::AuthFailed { .. },
            ) => self.skip(SkipCause::HandshakeOver),
            Err(error) => self.skip(error.into()),
        }
        None
    }

    fn binary(&mut self, len: usize) {
        self.skip(SkipCause::Binary(len));
    }
}

fn job_of(frame: JobFrame, received: std::time::Instant, agreed: Extensions) -> Result<Job, MalformedJob> {
    let (endpoint, form) = frame.requested(agreed).map_err(|why| MalformedJob { job_id: frame.job_id, why })?;
    let JobFrame { job_id: id, model_id: model, request, members, deadline, .. } = frame;
    Ok(Job { id, model, endpoint, form, request, members, received, deadline })
}

/// Parses a frame, a large one on a blocking thread, so that it delays no other work. The next frame waits: order is kept.
async fn parse(frame: Bytes) -> Result<FromCoordinator, FrameError> {
    if frame.len() < LARGE {
        return FromCoordinator::parse(&frame);
    }
    let parsed = tokio::task::spawn_blocking(move || FromCoordinator::parse(&frame)).await;
    parsed.unwrap_or(Err(FrameError::NotAnObject))
}
