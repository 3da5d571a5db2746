//! Why a job failed, and the frames that say so.

use std::fmt;

use bytes::Bytes;

use super::sender::ChunkSender;
use super::{Admission, Room};
use crate::backends::{BodyError, SendError};
use crate::core::scheduling::router::Refusal;
use crate::messages::ids::JobId;
use crate::messages::jobs::{Blame, Evidence, Failure, Outcome};
use crate::messages::wire::{ErrorCode, FromAgent, JobError};
use crate::protocol::assemble::AssembleError;
use crate::protocol::key_trace::KeyTrace;
use crate::protocol::usage::BackendFault;
use crate::transport::lease::JobLease;
use crate::transport::uplink::{LinkGone, Uplink};

/// What is said where a bound of this program is to blame.
pub(super) const TOO_LARGE: &str = "the backend's answer is too large to be read";

/// Queues `job_error` for a job whose end the caller has claimed; the ledger hears of it as that is written. Where the
/// connection is gone, the ledger hears of that.
pub(in crate::actors) fn fail(
    job_id: JobId,
    lease: &JobLease,
    uplink: &Uplink,
    admission: Admission,
    room: Option<Room>,
    fault: Fault,
) {
    let failure = fault.failure();
    let error = JobError { job_id, error_code: failure.code, message: fault.message, tokens_emitted: 0 };
    let ended = move || admission.ended(Outcome::Failed(failure));
    let _ = uplink.terminal(lease, FromAgent::JobError(error), room, ended);
}

/// Ends a job with `job_error`, unless somebody else ends it first. What a backend said goes up before, where the
/// connection carries heads. All of it waits for room: a job that nobody can do costs no more memory than one that runs.
pub(in crate::actors) async fn give_up(
    job_id: JobId,
    lease: &JobLease,
    uplink: &Uplink,
    admission: Admission,
    mut fault: Fault,
) {
    let said = fault.said.take().filter(|_| uplink.carries_heads());
    let saying = async {
        if let Some(Said { status, content_type, body }) = said.map(|said| *said) {
            let mut spare = None;
            let mut sender = ChunkSender::new(job_id, lease, uplink, &mut spare);
            sender.begin(status, &content_type);
            sender.send_all(&body).await?;
        }
        uplink.last_room().await
    };
    let room = tokio::select! {
        biased;
        () = lease.stopped() => return,
        // Where the connection is gone, nobody hears of the fault either.
        room = saying => room.ok(),
    };
    if lease.claim() {
        fail(job_id, lease, uplink, admission, room, fault);
    }
}

/// What a backend said instead of an answer: the client's own software may know what to make of it.
#[derive(Clone)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) content_type: String,
    /// At most [`ERROR_BODY_LIMIT`](crate::protocol::error_body::ERROR_BODY_LIMIT), or what that is translated to.
    pub(super) body: Bytes,
}

impl fmt::Debug for Said {
    /// Without the body, which may repeat the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Said({}, {} bytes)", self.status, self.body.len())
    }
}

/// Why a job failed, as the coordinator is told. Nothing in it comes from the host or from a body, but for short labels and
/// what the backend said to the caller.
#[derive(Clone, Debug)]
pub(in crate::actors) struct Fault {
    code: ErrorCode,
    blame: Blame,
    message: String,
    /// The backend's connection failed or broke, or its answer makes one doubt its health.
    by_connection: bool,
    /// Another backend may do what this one could not.
    elsewhere: bool,
    /// What it shows of the backend.
    evidence: Evidence,
    /// For the caller, where the connection carries it.
    said: Option<Box<Said>>,
}

impl Fault {
    pub(super) fn new(code: ErrorCode, blame: Blame, message: impl Into<String>) -> Self {
        Self {
            code,
            blame,
            message: message.into(),
            by_connection: false,
            elsewhere: false,
            evidence: Evidence::Nothing,
            said: None,
        }
    }

    /// The backend did something that has no code of its own.
    pub(super) fn backend(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, Blame::Backend, message)
    }

    /// The request can't be served as it is.
    pub(super) fn caller(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, Blame::Caller, message)
    }

    /// The deadline passed before the end.
    pub(in crate::actors) fn late() -> Self {
        Self::new(ErrorCode::BackendTimeout, Blame::Caller, "the deadline passed")
    }

    /// The job has no slot.
    pub(in crate::actors) fn refused(refusal: Refusal) -> Self {
        Self::new(refusal.code(), Blame::Operator, refusal.to_string())
    }

    /// The actors that worked it are gone.
    pub(in crate::actors) fn worker_lost() -> Self {
        Self::agent("the agent failed while working the job")
    }

    /// This program failed.
    pub(super) fn agent(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, Blame::Agent, message)
    }

    /// The operator has ended it.
    pub(in crate::actors) fn stopping() -> Self {
        Self::new(ErrorCode::Internal, Blame::Operator, "the agent is stopping")
    }

    /// The same, with the backend's connection to blame: the job may do better elsewhere.
    pub(super) fn by_connection(self) -> Self {
        Self { by_connection: true, elsewhere: true, ..self }
    }

    /// The same, with what it shows of the backend.
    pub(super) fn showing(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }

    /// The same, with a look at the backend's health to follow.
    pub(super) fn in_doubt(self) -> Self {
        Self { by_connection: true, ..self }
    }

    /// The same, where another backend may have what this one has not at the moment.
    pub(super) fn worth_another(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    /// The same, with what the caller is to read of it.
    pub(super) fn saying(self, said: Said) -> Self {
        Self { said: Some(Box::new(said)), ..self }
    }

    /// The same, without any text that contains the backend's API key.
    pub(super) fn without_key(mut self, key: &KeyTrace) -> Self {
        if key.is_in(self.message.as_bytes()) {
            self.message = "the backend failed with an error that contains its API key".to_owned();
        }
        self.said = self.said.filter(|said| !key.is_in(&said.body) && !key.is_in(said.content_type.as_bytes()));
        self
    }

    /// Whether another backend may do what this one could not.
    pub(super) fn is_worth_another(&self) -> bool {
        self.elsewhere
    }

    /// What is decided from it.
    pub(in crate::actors) fn failure(&self) -> Failure {
        let Self { code, blame, evidence, by_connection: probe, .. } = *self;
        Failure { code, blame, evidence, probe }
    }
}

impl From<BackendFault> for Fault {
    /// An error that the backend reported within a response that had begun well. SGLang and TGI report a caller's mistake
    /// so, too.
    fn from(fault: BackendFault) -> Self {
        let what = labelled("the backend reported an error".into(), &fault);
        Self::new(ErrorCode::Internal, Blame::Unclear, what).in_doubt()
    }
}

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unreachable => {
                Self::new(ErrorCode::BackendUnreachable, Blame::Backend, "no connection to the backend")
                    .by_connection()
                    .showing(Evidence::Backend)
            }
            SendError::Garbled => {
                Self::backend("the backend's answer is no HTTP").by_connection().showing(Evidence::Backend)
            }
            SendError::Broke => Self::new(ErrorCode::BackendUnreachable, Blame::Unclear, error.to_string())
                .by_connection()
                .showing(Evidence::Crash),
        }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        Self::backend(error.to_string())
    }
}

impl From<AssembleError> for Fault {
    fn from(error: AssembleError) -> Self {
        match error {
            AssembleError::Failed(fault) => fault.into(),
            AssembleError::Truncated => {
                Self::backend("the backend's response ended without its end mark").by_connection()
            }
            AssembleError::TooLarge | AssembleError::TooMany => Self::agent(TOO_LARGE),
            AssembleError::Malformed | AssembleError::Empty => {
                Self::backend("the backend's stream is not of the kind that was asked for")
            }
        }
    }
}

/// The connection went away under the job: whatever is reported now reaches nobody.
impl From<LinkGone> for Fault {
    fn from(gone: LinkGone) -> Self {
        Self::agent(gone.to_string())
    }
}

/// What happened, with the label of what the backend says of it.
pub(super) fn labelled(what: String, fault: &BackendFault) -> String {
    match &fault.label {
        Some(label) => format!("{what} ({label})"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use actix::prelude::*;
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;
    use crate::messages::ids::Generation;
    use crate::messages::jobs::{JobEnded, Ticket};
    use crate::messages::wire::Extensions;
    use crate::transport::lease::JobGrip;

    struct Deaf;

    impl Actor for Deaf {
        type Context = Context<Self>;
    }

    impl Handler<JobEnded> for Deaf {
        type Result = ();

        fn handle(&mut self, _: JobEnded, _: &mut Self::Context) {}
    }

    #[actix_rt::test]
    async fn a_job_that_is_given_up_waits_for_room_and_can_be_cancelled_until_then() {
        for cancelled in [true, false] {
            let (uplink, _downstream) = Uplink::new(Generation::default(), Extensions::all());
            let mut full: Vec<_> = std::iter::from_fn(|| uplink.try_room().ok()).collect();
            let (grip, lease) = JobGrip::new();
            let ledger = Deaf.start().recipient();
            let admission = Admission { ticket: Ticket(0), received: Instant::now(), ledger };
            let said = Said { status: 503, content_type: String::new(), body: vec![b'x'; 64 << 10].into() };
            let fault = Fault::backend("no").saying(said);
            let mut giving_up = Box::pin(give_up(JobId::random(), &lease, &uplink, admission, fault));
            assert!((&mut giving_up).now_or_never().is_none());
            let rooms = || std::iter::from_fn(|| uplink.try_room().ok()).collect::<Vec<_>>().len();
            if cancelled {
                drop(grip);
                assert!((&mut giving_up).now_or_never().is_some());
                let all = full.len();
                full.clear();
                assert_eq!(rooms(), all, "nothing waits for the pump");
            } else {
                assert!(lease.is_running());
                full.truncate(full.len() - 4);
                assert!((&mut giving_up).now_or_never().is_some());
                assert!(!lease.is_running() && rooms() < 4);
            }
        }
    }
}
