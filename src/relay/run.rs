//! One job's request to its backend, and the response's bytes to the job's stream: a stream exactly as it came, one body
//! once it is whole.
//!
//! Bounded in everything: in time by the router, which ends a job at its deadline; in memory by what the job's stream holds,
//! or 16 MiB of a response that has to be held, and as much of one event that has to be translated. Dropping the future at
//! any point closes the backend's connection, which is what stops the GPU.

use tokio::time::Instant;

use super::body::{EVENTS, JSON};
use super::fault::Fault;
use super::job_stream::JobStream;
use super::prepare::{Asked, Prepared, prepare};
use super::sender::ChunkSender;
use super::transfer::Transfer;
use super::watch::Watch;
use super::{refusal, whole};
use crate::backends::{Backend, BackendRequest};
use crate::core::formats::assemble::Whole;
use crate::core::formats::policy::RequestPolicy;
use crate::core::formats::translate::MessageEvents;
use crate::core::scheduling::route::Service;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::jobs::{Job, Outcome};
use crate::messages::wire::{FromAgent, JobDone, Tokens};

/// How a backend's work on a job ended.
pub(crate) enum Relayed {
    /// All bytes of the answer are in the job's stream.
    Done(Tokens),
    /// It failed.
    Failed(Fault),
    /// It failed before the first byte of an answer, and another backend may do better.
    Retry {
        /// The job, with its request.
        job: Job,
        /// Why it failed.
        fault: Fault,
    },
}

/// Has a backend work a job. `None`: the job was cancelled, or ended by another. `copy` is kept for another try.
pub(crate) async fn run(
    backend: &dyn Backend,
    policy: RequestPolicy,
    job: Job,
    service: Service,
    stream: &JobStream,
    mut copy: Option<Job>,
) -> Option<Relayed> {
    let relayed = tokio::select! {
        biased;
        () = stream.stopped() => return None,
        relayed = relay(backend, policy, job, service, stream, &mut copy) => relayed,
    };
    let fault = match relayed {
        Ok(tokens) => return Some(Relayed::Done(tokens)),
        Err(fault) => fault,
    };
    let fault = match backend.key_trace() {
        Some(trace) => fault.without_key(&trace),
        None => fault,
    };
    Some(match copy {
        Some(job) if fault.is_retryable() => Relayed::Retry { job, fault },
        _ => Relayed::Failed(fault),
    })
}

/// Ends a job with `job_done`, unless it has ended. `ended` is called as that frame is written.
pub(crate) fn finish(
    stream: &JobStream,
    tokens: Tokens,
    received: Instant,
    ended: impl FnOnce(Outcome) + Send + 'static,
) {
    let duration_ms = u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX);
    let done = FromAgent::JobDone(JobDone { job_id: stream.job(), tokens, duration_ms });
    stream.end(done, Box::new(move || ended(Outcome::Done { tokens })));
}

async fn relay(
    backend: &dyn Backend,
    policy: RequestPolicy,
    job: Job,
    service: Service,
    stream: &JobStream,
    copy: &mut Option<Job>,
) -> Result<Tokens, Fault> {
    let Job { id, model, endpoint, form, request, members, .. } = job;
    let mut sender = ChunkSender::new(stream, copy);
    // The request is kept for the upload only, unless another backend may need it: it may be large, and the answer long.
    let asked = Asked { id, model: model.clone(), endpoint, request, members };
    let Prepared { endpoint, body, translated } = prepare(asked, policy, service).await?;
    let new_events = |thinking| Box::new(MessageEvents::new(&model, thinking).without_key(backend.key_trace()));
    let events = translated.map(new_events);
    let response = backend.send(BackendRequest { job: id, endpoint, body }).await?;
    if !(200..300).contains(&response.status) {
        return Err(refusal::of(response, service, backend.key_trace().as_deref()).await);
    }
    stream.progress().begin();
    let (status, body) = (response.status, response.body);
    let kind = BodyKind::of(&response.content_type, endpoint);
    let Whole { body, tokens } = match (form, kind, events) {
        (AnswerForm::Stream, BodyKind::Stream, events) => {
            sender.begin(status, EVENTS);
            let watch = match events {
                Some(events) => Watch::translated(events),
                None => Watch::as_is(endpoint, backend.key_trace()),
            };
            return Transfer::new(watch, sender).run(body).await;
        }
        // The state of a whole response is boxed: all jobs, most of which are streams, would be larger by it.
        (AnswerForm::Whole, BodyKind::Stream, Some(events)) => Box::pin(whole::message_of_stream(events, body)).await?,
        (_, BodyKind::Whole, Some(events)) => Box::pin(whole::message_of_whole(events, body, form)).await?,
        (AnswerForm::Whole, BodyKind::Stream, None) => Box::pin(whole::assembled(endpoint, body)).await?,
        (AnswerForm::Whole, BodyKind::Whole, None) => {
            let key = backend.key_trace();
            return Box::pin(whole::relayed(endpoint, status, body, sender, key.as_deref())).await;
        }
        // A server that ignores `stream`. Without heads the client could not tell that the response is not a stream: an error.
        (AnswerForm::Stream, BodyKind::Whole, None) if sender.carries_heads() => {
            Box::pin(whole::disassembled(endpoint, body)).await?
        }
        (_, BodyKind::Whole | BodyKind::Other, _) => {
            return Err(Fault::backend("the backend answered something else than it was asked for"));
        }
    };
    sender.begin(status, if form == AnswerForm::Stream { EVENTS } else { JSON });
    sender.append_whole(&body).await;
    Ok(tokens)
}

/// What a response is by its type.
enum BodyKind {
    /// An event stream.
    Stream,
    /// One JSON body.
    Whole,
    /// Nothing that was asked for.
    Other,
}

impl BodyKind {
    /// A response that does not say is what this endpoint's responses are.
    fn of(content_type: &str, endpoint: Endpoint) -> Self {
        match (content_type, endpoint) {
            (JSON, _) | ("", Endpoint::Embeddings) => Self::Whole,
            (_, Endpoint::Embeddings) => Self::Other,
            (EVENTS | "", _) => Self::Stream,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function returns.
    fn size<'a, F>(
        _: impl FnOnce(&'a dyn Backend, RequestPolicy, Job, Service, &'a JobStream, Option<Job>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_job_at_work_has_a_small_future() {
        let size = size(run);
        assert!(size <= 1536, "{size} bytes");
    }
}
