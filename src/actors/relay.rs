//! The relay: one job's request to its backend, and the response's bytes up, exactly as they came.
//!
//! Bounded in everything: the job's deadline in time, the uplink's budget and one chunk of joined bytes in memory.
//! Dropping the future at any point closes the backend's connection, which is what stops the GPU.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::envelopes::{Admission, Dispatch};
use crate::backends::{Backend, BackendRequest, BackendResponse, BodyError, SendError};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::JobId;
use crate::messages::jobs::{Job, Outcome};
use crate::messages::wire::{ErrorCode, FromAgent, JobDone, JobError, Tokens};
use crate::protocol::request::backend_body;
use crate::protocol::usage::{BackendFault, ERROR_BODY_LIMIT, Ending, ResponseScan};
use crate::transport::lease::JobLease;
use crate::transport::uplink::{LinkGone, MAX_CHUNK, NotSent, Room, Uplink};

/// How long the body of an error may take: the status alone decides the code.
const ERROR_BODY: Duration = Duration::from_secs(1);
/// How long a body may go on after its end mark.
const AFTER_THE_END: Duration = Duration::from_secs(1);
/// The largest buffer that a stream keeps while nothing waits in it.
const KEPT_BUFFER: usize = 2 * 1024;
/// The longest deadline that is held to: far enough, and near enough for a timer.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Works a job to its end and queues its terminal frame, unless it was cancelled or somebody else ended it. The ledger
/// hears of the end as that frame is written; where none is queued, the job has left the ledger already.
pub(super) async fn work(backend: &dyn Backend, dispatch: Dispatch) {
    let Dispatch { job, lease, uplink, admission } = dispatch;
    let (id, received) = (job.id, job.received);
    let deadline = received + job.deadline.min(FAR);
    let relayed = tokio::select! {
        biased;
        () = lease.stopped() => return,
        relayed = timeout_at(deadline, relay(backend, job, &lease, &uplink)) => relayed,
    };
    // A last frame waits for room like any other, or jobs that are cancelled behind a slow link would pile them up.
    let room = tokio::select! {
        biased;
        () = lease.stopped() => return,
        room = uplink.last_room() => room.ok(),
    };
    match relayed.unwrap_or(Err(Fault::new(ErrorCode::BackendTimeout, "the deadline passed"))) {
        Ok(tokens) => {
            if lease.claim() {
                let duration_ms = u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX);
                let done = FromAgent::JobDone(JobDone { job_id: id, tokens, duration_ms });
                // Where the connection is gone, the ledger hears of that.
                let _ = uplink.terminal(&lease, done, room, move || admission.ended(Outcome::Done { tokens }));
            }
        }
        Err(fault) => {
            if lease.claim() {
                fail(id, &lease, &uplink, admission, room, fault);
            }
        }
    }
}

/// Queues `job_error` for a job whose end the caller has claimed; the ledger hears of it as that is written. Where the
/// connection is gone, the ledger hears of that.
pub(super) fn fail(
    job_id: JobId,
    lease: &JobLease,
    uplink: &Uplink,
    admission: Admission,
    room: Option<Room>,
    fault: Fault,
) {
    let Fault { code, message, by_connection } = fault;
    let error = JobError { job_id, error_code: code, message, tokens_emitted: 0 };
    let ended = move || admission.ended(Outcome::Failed { code, by_connection });
    let _ = uplink.terminal(lease, FromAgent::JobError(error), room, ended);
}

/// Why a job failed, as the coordinator is told. Nothing in it comes from the host or from a body, but for short labels.
#[derive(Debug)]
pub(super) struct Fault {
    code: ErrorCode,
    message: String,
    /// The backend's connection failed or broke.
    by_connection: bool,
}

impl Fault {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), by_connection: false }
    }

    /// Anything that has no code of its own.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    fn by_connection(self) -> Self {
        Self { by_connection: true, ..self }
    }
}

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unreachable => {
                Self::new(ErrorCode::BackendUnreachable, "no connection to the backend").by_connection()
            }
            SendError::Garbled => Self::internal("the backend's answer is no HTTP"),
        }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        Self::internal(error.to_string())
    }
}

/// The connection went away under the job: whatever is reported now reaches nobody.
impl From<LinkGone> for Fault {
    fn from(gone: LinkGone) -> Self {
        Self::internal(gone.to_string())
    }
}

async fn relay(backend: &dyn Backend, job: Job, lease: &JobLease, uplink: &Uplink) -> Result<Tokens, Fault> {
    let body = backend_body(&job.request, &job.model, job.endpoint)
        .map_err(|_| Fault::internal("the request is no JSON object"))?;
    let (id, endpoint) = (job.id, job.endpoint);
    // The request lives no longer than its upload: it may be large, and the answer long.
    drop(job);
    let response = backend.send(BackendRequest { job: id, endpoint, body }).await?;
    if !(200..300).contains(&response.status) {
        return Err(refusal(response).await);
    }
    if !matches!(response.content_type.as_str(), "text/event-stream" | "") {
        return Err(Fault::internal("the backend answered something else than the event stream it was asked for"));
    }
    Transfer::new(id, endpoint, lease, uplink).run(response.body).await
}

/// What a status that is no success means. The body is read up to a bound and only a label of it goes further.
async fn refusal(response: BackendResponse) -> Fault {
    let status = response.status;
    let mut body = response.body;
    let mut text = BytesMut::new();
    let read = async {
        while let Some(Ok(bytes)) = body.next().await {
            let room = ERROR_BODY_LIMIT - text.len();
            text.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            if text.len() == ERROR_BODY_LIMIT {
                break;
            }
        }
    };
    // What came by then is enough for a label.
    let _ = timeout(ERROR_BODY, read).await;
    let fault = BackendFault::from_body(&text);
    let code = match status {
        401 | 403 => ErrorCode::AuthRejectedByBackend,
        404 => ErrorCode::ModelNotLoaded,
        400..=499 if fault.is_model_missing() => ErrorCode::ModelNotLoaded,
        _ => ErrorCode::Internal,
    };
    Fault::new(code, labelled(format!("the backend answered {status}"), &fault))
}

fn labelled(what: String, fault: &BackendFault) -> String {
    match &fault.label {
        Some(label) => format!("{what} ({label})"),
        None => what,
    }
}

/// The response's way up.
struct Transfer<'a> {
    id: JobId,
    lease: &'a JobLease,
    uplink: &'a Uplink,
    scan: ResponseScan,
    /// Bytes read and not sent: what was ready together, and what found no room.
    waiting: BytesMut,
    /// Whether the body had any byte.
    any: bool,
}

type Body = LocalBoxStream<'static, Result<Bytes, BodyError>>;

impl<'a> Transfer<'a> {
    fn new(id: JobId, endpoint: Endpoint, lease: &'a JobLease, uplink: &'a Uplink) -> Self {
        Self { id, lease, uplink, scan: ResponseScan::new(endpoint), waiting: BytesMut::new(), any: false }
    }

    async fn run(mut self, mut body: Body) -> Result<Tokens, Fault> {
        let uplink = self.uplink;
        // The place in the queue for room, kept while bytes join.
        let mut room = None::<LocalBoxFuture<'a, Result<Room, LinkGone>>>;
        // How long the body may go on, once nothing that matters comes any more.
        let mut limit = None::<Instant>;
        let broken = loop {
            let next = if self.waiting.is_empty() && limit.is_none() {
                body.next().await
            } else {
                tokio::select! {
                    biased;
                    // Made when it is polled: a branch that is off asks for no room.
                    granted = async { room.get_or_insert_with(|| Box::pin(uplink.room())).await },
                        if !self.waiting.is_empty() =>
                    {
                        room = None;
                        self.send_into(granted?)?;
                        continue;
                    }
                    // A full chunk waits: the backend is held back.
                    next = body.next(), if self.waiting.len() < MAX_CHUNK => next,
                    () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => break None,
                }
            };
            match self.take(next, &mut body) {
                ControlFlow::Break(broken) => break broken,
                ControlFlow::Continue(()) if room.is_none() => self.send_ready()?,
                ControlFlow::Continue(()) => {}
            }
            if limit.is_none() && self.scan.is_over() {
                limit = Some(Instant::now() + AFTER_THE_END);
            }
        };
        drop(room);
        self.send_ready()?;
        while !self.waiting.is_empty() {
            let room = uplink.room().await?;
            self.send_into(room)?;
        }
        match (self.scan.finish(), broken) {
            (Ending::Complete { tokens }, _) => Ok(tokens),
            (Ending::Failed(fault), _) => {
                Err(Fault::internal(labelled("the backend reported an error".into(), &fault)))
            }
            (Ending::Truncated, Some(error)) => Err(Fault::from(error).by_connection()),
            (Ending::Truncated, None) if !self.any => Err(Fault::internal("the backend's response is empty")),
            (Ending::Truncated, None) => {
                Err(Fault::internal("the backend's response ended without its end mark").by_connection())
            }
        }
    }

    /// Takes what was read, and all that can be read without waiting, up to a full chunk: events that are there together
    /// share a frame.
    fn take(&mut self, first: Option<Result<Bytes, BodyError>>, body: &mut Body) -> ControlFlow<Option<BodyError>> {
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                None => return ControlFlow::Break(None),
                Some(Err(error)) => return ControlFlow::Break(Some(error)),
                Some(Ok(bytes)) => {
                    self.any |= !bytes.is_empty();
                    self.scan.feed(&bytes);
                    self.waiting.extend_from_slice(&bytes);
                }
            }
            next = if self.waiting.len() < MAX_CHUNK { body.next().now_or_never() } else { None };
        }
        ControlFlow::Continue(())
    }

    /// Sends what has room now; the rest waits.
    fn send_ready(&mut self) -> Result<(), LinkGone> {
        while !self.waiting.is_empty() {
            let piece = self.waiting.len().min(MAX_CHUNK);
            match self.uplink.try_chunk(self.id, self.lease, self.waiting.get(..piece).unwrap_or_default()) {
                Ok(()) => self.waiting.advance(piece),
                Err(NotSent::Full) => break,
                Err(NotSent::Gone(gone)) => return Err(gone),
            }
        }
        self.slim();
        Ok(())
    }

    /// Sends one chunk of what waits into room that was granted.
    fn send_into(&mut self, room: Room) -> Result<(), LinkGone> {
        let piece = self.waiting.len().min(MAX_CHUNK);
        self.uplink.chunk(room, self.id, self.lease, self.waiting.get(..piece).unwrap_or_default())?;
        self.waiting.advance(piece);
        self.slim();
        Ok(())
    }

    /// Gives a large buffer back: streams that are slow most of the time must not each keep that of their one burst.
    fn slim(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_BUFFER {
            self.waiting = BytesMut::new();
        }
    }
}
