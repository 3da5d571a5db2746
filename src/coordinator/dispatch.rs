//! Finds an agent for a request, and the next one if the first refuses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::errors::ApiError;
use super::hub::{Hub, Link, RunJob, ToSession};
use super::relay::{End, Inlet, Relayed, relay};
use super::request::Asked;
use super::roster::{NoAgent, SessionId};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::{ErrorCode, FromCoordinator, JobFrame, JobTarget};

/// A body from here on is made a frame off the thread that serves connections.
const LARGE: usize = 1 << 20;

/// A booked slot. Dropped before the job's end it cancels the job.
struct Lease {
    hub: Arc<Hub>,
    session: SessionId,
    provider: ProviderId,
    link: Link,
    job: JobId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.hub.release(self.session, self.job) {
            self.link.tell(ToSession::Cancel(self.job));
        }
    }
}

/// A job at work. Dropping it is how a client that went away cancels.
pub(super) struct Running {
    inlet: Inlet,
    lease: Lease,
    /// When to wait no longer.
    until: Instant,
}

impl Running {
    /// What comes next of the answer.
    pub(super) async fn next(&mut self) -> Relayed {
        let next = tokio::time::timeout_at(self.until, self.inlet.next()).await;
        let next = next.unwrap_or(Relayed::End(End::Late));
        if let Relayed::End(end) = &next {
            self.log(end);
        }
        next
    }

    fn log(&self, end: &End) {
        let (provider, job) = (&self.lease.provider, self.lease.job);
        match end {
            End::Done => log::debug!("job done provider={provider} job={job}"),
            End::Failed { code, .. } => log::info!("job failed provider={provider} job={job} code={code}"),
            End::Overflowed => log::warn!("job cancelled provider={provider} job={job} cause=slow_client"),
            End::Garbled => log::warn!("job cancelled provider={provider} job={job} cause=unreadable_chunk"),
            End::Lost => log::warn!("job lost provider={provider} job={job} cause=agent_gone"),
            End::Late => log::warn!("job cancelled provider={provider} job={job} cause=deadline"),
        }
    }
}

/// Starts a job and waits for the first bytes of its answer. Agents that refuse it before that are passed over, each
/// once; if nobody takes it, the last refusal is the answer.
pub(super) async fn start(
    hub: &Arc<Hub>,
    asked: &Asked,
    request: Bytes,
    endpoint: Endpoint,
) -> Result<(Running, Bytes), ApiError> {
    let deadline = Instant::now() + hub.config.job_deadline;
    let mut tried = Vec::new();
    let mut refusal = None;
    loop {
        if hub.is_stopping() {
            return Err(ApiError::Stopping);
        }
        let lease = match book(hub, &asked.model, &tried) {
            Ok(lease) => lease,
            Err(no_agent) => {
                return Err(refusal.unwrap_or_else(|| match no_agent {
                    NoAgent::Unknown => ApiError::UnknownModel(asked.model.clone()),
                    NoAgent::Full => ApiError::Full,
                }));
            }
        };
        tried.push(lease.session);
        let frame = JobFrame {
            job_id: lease.job,
            model_id: asked.model.clone(),
            request: request.clone(),
            endpoint,
            deadline: deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
            target: JobTarget::BASE,
        };
        let frame = encode(frame).await?;
        let (outlet, inlet) = relay(hub.config.max_buffered);
        if !lease.link.run(RunJob { id: lease.job, frame, outlet }) {
            refusal = Some(ApiError::Full);
            continue;
        }
        let mut running = Running { inlet, lease, until: deadline + hub.config.deadline_margin };
        match running.next().await {
            Relayed::Chunk(first) => return Ok((running, first)),
            Relayed::End(end) => match ApiError::of(end) {
                error if error.is_refusal() => refusal = Some(error),
                error => return Err(error),
            },
        }
    }
}

fn book(hub: &Arc<Hub>, model: &ModelId, tried: &[SessionId]) -> Result<Lease, NoAgent> {
    let job = JobId::random();
    let given = hub.roster().assign(model, job, tried)?;
    Ok(Lease { hub: hub.clone(), session: given.session, provider: given.provider, link: given.link, job })
}

async fn encode(job: JobFrame) -> Result<String, ApiError> {
    let large = job.request.len() >= LARGE;
    let encode = move || serde_json::to_string(&FromCoordinator::Job(job));
    let encoded = if large { actix_web::web::block(encode).await.ok() } else { Some(encode()) };
    // The request was read before, so that this is no fault of the client's.
    let internal = || ApiError::Agent { code: ErrorCode::Internal, message: String::new() };
    encoded.and_then(Result::ok).ok_or_else(internal)
}
