//! The relay: one job's request to its backend, and the response's bytes up: a stream exactly as it came, one body once
//! it is whole.
//!
//! Bounded in everything: in time by the router, which ends a job at its deadline; in memory by the uplink's budget and one
//! chunk of joined bytes, or 16 MiB of a response that has to be held, and as much of one event that has to be translated.
//! Dropping the future at any point closes the backend's connection, which is what stops the GPU.

use actix::Recipient;
use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use tokio::task::spawn_blocking;

use self::sender::ChunkSender;
use self::transfer::Transfer;
use self::watch::Watch;
use super::envelopes::{Admission, Dispatch, TryElsewhere};
use crate::backends::{Backend, BackendRequest, BodyError};
use crate::core::scheduling::route::Service;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::ModelId;
use crate::messages::jobs::{Job, Outcome};
use crate::messages::wire::{FromAgent, JobDone, Tokens};
use crate::protocol::assemble::Whole;
use crate::protocol::request::backend_body;
use crate::protocol::translate::{MessageEvents, TranslateError, Translated, chat_request, error_body};
use crate::transport::lease::JobLease;
use crate::transport::uplink::{Room, Uplink};

mod fault;
mod refusal;
mod sender;
mod transfer;
mod watch;
mod whole;

use fault::Said;
pub(super) use fault::{Fault, fail, give_up};

/// A response's body as it arrives.
type Body = LocalBoxStream<'static, Result<Bytes, BodyError>>;

/// What another try elsewhere needs: who finds the place, and the job.
type Spare = (Recipient<TryElsewhere>, Job);

/// Works a job to its end and queues its terminal frame, unless it was cancelled or somebody else ended it. The ledger
/// hears of the end as that frame is written; where none is queued, the job has left the ledger already. A job that another
/// backend may do better goes back to the router instead, as long as nothing of an answer went up.
pub(super) async fn work(backend: &dyn Backend, dispatch: Dispatch) {
    let Dispatch { job, service, elsewhere, lease, uplink, admission } = dispatch;
    let (id, received) = (job.id, job.received);
    let mut spare = elsewhere.map(|router| (router, job.clone()));
    let relayed = tokio::select! {
        biased;
        () = lease.stopped() => return,
        relayed = relay(backend, job, service, &lease, &uplink, &mut spare) => relayed,
    };
    let relayed = relayed.map_err(|fault| match backend.key_trace() {
        Some(trace) => fault.without_key(&trace),
        None => fault,
    });
    let tokens = match (relayed, spare) {
        (Ok(tokens), _) => tokens,
        (Err(fault), Some((router, job))) if fault.is_worth_another() => {
            return router.do_send(TryElsewhere { job, lease, admission, fault });
        }
        (Err(fault), _) => return give_up(id, &lease, &uplink, admission, fault).await,
    };
    // A last frame waits for room like any other, or jobs that are cancelled behind a slow link would pile them up.
    let room = tokio::select! {
        biased;
        () = lease.stopped() => return,
        room = uplink.last_room() => room.ok(),
    };
    if lease.claim() {
        let duration_ms = u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX);
        let done = FromAgent::JobDone(JobDone { job_id: id, tokens, duration_ms });
        // Where the connection is gone, the ledger hears of that.
        let _ = uplink.terminal(&lease, done, room, move || admission.ended(Outcome::Done { tokens }));
    }
}

async fn relay(
    backend: &dyn Backend,
    job: Job,
    service: Service,
    lease: &JobLease,
    uplink: &Uplink,
    spare: &mut Option<Spare>,
) -> Result<Tokens, Fault> {
    let Job { id, model, endpoint: asked, form, request, members, .. } = job;
    let mut sender = ChunkSender::new(id, lease, uplink, spare);
    let (endpoint, body, events) = match service {
        Service::Native => {
            let body = backend_body(&request, &members, &model, asked);
            (asked, body.map_err(|_| Fault::caller("the request is no JSON object"))?, None)
        }
        Service::Translated => match translated(&request, &model).await? {
            Ok(Translated { body, dropped, thinking }) => {
                if !dropped.is_empty() {
                    log::warn!("members of a request ignored job={id} members={}", dropped.join(","));
                }
                let events = MessageEvents::new(&model, thinking).without_key(backend.key_trace());
                (Endpoint::ChatCompletions, body, Some(events))
            }
            Err(error) => {
                let why = error.to_string();
                let body = error_body(400, why.as_bytes()).into();
                return Err(Fault::caller(why).saying(Said { status: 400, content_type: JSON.to_owned(), body }));
            }
        },
    };
    // But for a spare the request lives no longer than its upload: it may be large, and the answer long.
    drop(request);
    let response = backend.send(BackendRequest { job: id, endpoint, body }).await?;
    if !(200..300).contains(&response.status) {
        return Err(refusal::of(response, service, backend.key_trace().as_deref()).await);
    }
    lease.begin_answer();
    let (status, body) = (response.status, response.body);
    let came = Came::of(&response.content_type, endpoint);
    let Whole { body, tokens } = match (form, came, events) {
        (AnswerForm::Stream, Came::Stream, events) => {
            sender.begin(status, EVENTS);
            let watch = match events {
                Some(events) => Watch::Translated(Box::new(events)),
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
    sender.send_all(&body).await?;
    Ok(tokens)
}

/// A request of this many bytes is translated off the arbiter: the streams of other jobs would stand still meanwhile.
const LONG_REQUEST: usize = 1 << 20;

async fn translated(request: &Bytes, model: &ModelId) -> Result<Result<Translated, TranslateError>, Fault> {
    let (text, model) = (request.clone(), model.clone());
    off_arbiter(request.len() > LONG_REQUEST, move || chat_request(&text, &model)).await
}

/// Does a piece of work here, or where it may take long on a thread that is for such. Work that nobody waits for any more
/// comes to its end there, and is dropped.
async fn off_arbiter<T: Send + 'static>(is_long: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    if !is_long {
        return Ok(work());
    }
    spawn_blocking(work).await.map_err(|_| Fault::agent("the request could not be translated"))
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[actix_rt::test]
    async fn long_work_is_done_on_another_thread_and_short_work_here() {
        let here = thread::current().id();
        let place = || thread::current().id();
        assert_eq!(off_arbiter(false, place).await.unwrap(), here);
        assert_ne!(off_arbiter(true, place).await.unwrap(), here);
    }

    #[actix_rt::test]
    async fn a_panic_in_long_work_is_a_fault_of_this_program() {
        let fault = off_arbiter::<()>(true, || panic!("as the test wants it")).await.unwrap_err();
        assert_eq!(fault.failure().blame, crate::messages::jobs::Blame::Agent);
    }
}
