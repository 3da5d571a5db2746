//! The relay: one job's request to its backend, and the response's bytes up: a stream exactly as it came, one body once
//! it is whole.
//!
//! Bounded in everything: in time by the router, which ends a job at its deadline; in memory by what the job's stream holds,
//! or 16 MiB of a response that has to be held, and as much of one event that has to be translated. Dropping the future at
//! any point closes the backend's connection, which is what stops the GPU.

use actix::Recipient;
use bytes::Bytes;
use futures_util::stream::LocalBoxStream;

use self::sender::ChunkSender;
use self::transfer::Transfer;
use self::watch::Watch;
use super::envelopes::{Admission, Dispatch, TryElsewhere};
use crate::backends::{Backend, BackendRequest, BodyError};
use crate::core::scheduling::route::Service;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::jobs::{Job, Outcome};
use crate::messages::wire::{FromAgent, JobDone, Tokens};
use crate::protocol::assemble::Whole;
use crate::protocol::policy::RequestPolicy;
use crate::protocol::translate::MessageEvents;
use crate::relay::job_stream::JobStream;

mod fault;
mod prepare;
mod refusal;
mod sender;
mod transfer;
mod watch;
mod whole;

pub(super) use fault::{Fault, end, give_up};
use prepare::{Asked, Prepared, prepare};

/// A response's body as it arrives.
type Body = LocalBoxStream<'static, Result<Bytes, BodyError>>;

/// What another try elsewhere needs: who finds the place, and the job.
type Spare = (Recipient<TryElsewhere>, Job);

/// Works a job to its end, unless it is cancelled or ended by another. The router hears of the end as the terminal frame is
/// written. A job that another backend may do better goes back to the router instead, as long as there is no byte of an
/// answer.
pub(super) async fn work(backend: &dyn Backend, policy: RequestPolicy, dispatch: Dispatch) {
    let Dispatch { job, service, elsewhere, stream, admission } = dispatch;
    let (job_id, received) = (job.id, job.received);
    let mut spare = elsewhere.map(|router| (router, job.clone()));
    let relayed = tokio::select! {
        biased;
        () = stream.stopped() => return,
        relayed = relay(backend, policy, job, service, &stream, &mut spare) => relayed,
    };
    let relayed = relayed.map_err(|fault| match backend.key_trace() {
        Some(trace) => fault.without_key(&trace),
        None => fault,
    });
    match (relayed, spare) {
        (Ok(tokens), _) => {
            let duration_ms = u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX);
            let done = FromAgent::JobDone(JobDone { job_id, tokens, duration_ms });
            stream.end(done, Box::new(move || admission.ended(Outcome::Done { tokens })));
        }
        (Err(fault), Some((router, job))) if fault.is_worth_another() => {
            router.do_send(TryElsewhere { job, stream, admission, fault });
        }
        (Err(fault), _) => give_up(&stream, admission, fault).await,
    }
}

async fn relay(
    backend: &dyn Backend,
    policy: RequestPolicy,
    job: Job,
    service: Service,
    stream: &JobStream,
    spare: &mut Option<Spare>,
) -> Result<Tokens, Fault> {
    let Job { id, model, endpoint, form, request, members, .. } = job;
    let mut sender = ChunkSender::new(stream, spare);
    // The request is kept for the upload only, unless another backend may need it: it may be large, and the answer long.
    let asked = Asked { id, model: model.clone(), endpoint, request, members };
    let Prepared { endpoint, body, translated } = prepare(asked, policy, service).await?;
    let events = translated.map(|thinking| MessageEvents::new(&model, thinking).without_key(backend.key_trace()));
    let response = backend.send(BackendRequest { job: id, endpoint, body }).await?;
    if !(200..300).contains(&response.status) {
        return Err(refusal::of(response, service, backend.key_trace().as_deref()).await);
    }
    stream.begin_answer();
    let (status, body) = (response.status, response.body);
    let came = Came::of(&response.content_type, endpoint);
    let Whole { body, tokens } = match (form, came, events) {
        (AnswerForm::Stream, Came::Stream, events) => {
            sender.begin(status, EVENTS);
            let watch = match events {
                Some(events) => Watch::translated(events),
                None => Watch::as_is(endpoint, backend.key_trace()),
            };
            return Transfer::new(watch, sender).run(body).await;
        }
        (AnswerForm::Whole, Came::Stream, Some(events)) => whole::message_of_stream(events, body).await?,
        (_, Came::Whole, Some(events)) => whole::message_of_whole(events, body, form).await?,
        (AnswerForm::Whole, Came::Stream, None) => whole::assembled(endpoint, body).await?,
        (AnswerForm::Whole, Came::Whole, None) => return whole::relayed(endpoint, status, body, sender).await,
        // A server that takes no notice of `stream`. In the base protocol what goes up is what came, which is no stream.
        (AnswerForm::Stream, Came::Whole, None) if sender.carries_heads() => whole::unfolded(endpoint, body).await?,
        (_, Came::Whole | Came::Other, _) => {
            return Err(Fault::backend("the backend answered something else than it was asked for"));
        }
    };
    sender.begin(status, if form == AnswerForm::Stream { EVENTS } else { JSON });
    sender.append_all(&body).await;
    Ok(tokens)
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What a response is by its type.
enum Came {
    /// An event stream.
    Stream,
    /// One JSON body.
    Whole,
    /// Nothing that was asked for.
    Other,
}

impl Came {
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
