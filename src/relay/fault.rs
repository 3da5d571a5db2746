//! Why a job failed, and the frames that say so.

use std::fmt;

use bytes::Bytes;

use super::job_stream::JobStream;
use super::sender::ChunkSender;
use crate::backends::{BodyError, SendError};
use crate::core::formats::assemble::AssembleError;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::usage::BackendFault;
use crate::core::scheduling::router::Refusal;
use crate::messages::cause::Cause;
use crate::messages::ids::JobId;
use crate::messages::jobs::{Blame, Evidence, Failure, Outcome};
use crate::messages::wire::{ErrorCode, FromAgent, JobError};

/// The message for a response that is not sent, or not completely, because it contains the API key.
pub(super) const KEY_IN_ANSWER: &str = "a part of the backend's answer contains its API key";
/// The message for a response that exceeds a bound of this program.
pub(super) const TOO_LARGE: &str = "the backend's answer is too large to be read";

/// Ends a job with `job_error`, unless it has ended. `ended` is called as that frame is written.
pub(crate) fn end(stream: &JobStream, fault: Fault, ended: impl FnOnce(Outcome) + Send + 'static) {
    let failure = fault.failure();
    stream.end(fault.job_error(stream.job()), Box::new(move || ended(Outcome::Failed(failure))));
}

/// Ends a job with `job_error`, unless it ends otherwise first. The backend's error response is sent before it if the
/// connection carries heads, as there is room: a job that fails takes no more memory than one that runs.
pub(crate) async fn give_up(stream: &JobStream, mut fault: Fault, ended: impl FnOnce(Outcome) + Send + 'static) {
    if let Some(response) = fault.response.take().filter(|_| stream.carries_heads()) {
        let ErrorResponse { status, content_type, body } = *response;
        let mut copy = None;
        let mut sender = ChunkSender::new(stream, &mut copy);
        sender.begin(status, &content_type);
        tokio::select! {
            biased;
            () = stream.stopped() => return,
            () = sender.append_whole(&body) => {}
        }
    }
    end(stream, fault, ended);
}

/// A backend's error response, for the client.
#[derive(Clone)]
pub(super) struct ErrorResponse {
    pub(super) status: u16,
    pub(super) content_type: String,
    /// At most [`ERROR_BODY_LIMIT`](crate::core::formats::error_body::ERROR_BODY_LIMIT), or what that is translated to.
    pub(super) body: Bytes,
}

impl fmt::Debug for ErrorResponse {
    /// Without the body, which may repeat the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorResponse({}, {} bytes)", self.status, self.body.len())
    }
}

/// Why a job failed, as reported to the coordinator. Except for short labels and the backend's error response, none of it comes
/// from the host or from a body.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    cause: Cause,
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
    response: Option<Box<ErrorResponse>>,
}

impl Fault {
    pub(super) fn new(code: ErrorCode, blame: Blame, message: impl Into<String>) -> Self {
        Self {
            cause: usual_cause(code, blame),
            code,
            blame,
            message: message.into(),
            by_connection: false,
            elsewhere: false,
            evidence: Evidence::Nothing,
            response: None,
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
    pub(crate) fn late() -> Self {
        Self::new(ErrorCode::BackendTimeout, Blame::Caller, "the deadline passed")
    }

    /// The job has no slot.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self::new(refusal.code(), Blame::Operator, refusal.to_string()).because(refusal.cause())
    }

    /// The actors that worked it are gone.
    pub(crate) fn worker_lost() -> Self {
        Self::agent("the agent failed while working the job").because(Cause::WorkerLost)
    }

    /// The coordinator wants bytes of the response that are not kept.
    pub(crate) fn not_kept() -> Self {
        Self::agent("the coordinator wants a part of the response that the agent does not have").because(Cause::NotKept)
    }

    /// The terminal frame of a job that it ends.
    pub(crate) fn job_error(&self, job_id: JobId) -> FromAgent {
        let (error_code, message) = (self.failure().code, self.message.clone());
        FromAgent::JobError(JobError { job_id, error_code, message, tokens_emitted: 0 })
    }

    /// This program failed.
    pub(super) fn agent(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, Blame::Agent, message)
    }

    /// The operator has ended it.
    pub(crate) fn stopping() -> Self {
        Self::new(ErrorCode::Internal, Blame::Operator, "the agent is stopping").because(Cause::Stopping)
    }

    /// The same, for this cause.
    fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// The same, with the backend's connection to blame: the job may do better elsewhere.
    pub(super) fn by_connection(self) -> Self {
        Self { by_connection: true, elsewhere: true, ..self }
    }

    /// The same, with what it shows of the backend.
    pub(super) fn showing(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }

    /// The same, and the backend is probed.
    pub(super) fn with_probe(self) -> Self {
        Self { by_connection: true, ..self }
    }

    /// The same, where another backend may have what this one has not at the moment.
    pub(super) fn retryable(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    /// The same, with what the caller is to read of it.
    pub(super) fn with_response(self, response: ErrorResponse) -> Self {
        Self { response: Some(Box::new(response)), ..self }
    }

    /// The same, without any text that contains the backend's API key.
    pub(super) fn without_key(mut self, key: &KeyTrace) -> Self {
        if key.is_in(self.message.as_bytes()) {
            self.message = "the backend failed with an error that contains its API key".to_owned();
        }
        self.response =
            self.response.filter(|response| !key.is_in(&response.body) && !key.is_in(response.content_type.as_bytes()));
        self
    }

    /// Whether another backend may do what this one could not.
    pub(super) fn is_retryable(&self) -> bool {
        self.elsewhere
    }

    /// What is decided from it.
    pub(crate) fn failure(&self) -> Failure {
        let Self { cause, code, blame, evidence, by_connection: probe, .. } = *self;
        Failure { cause, code, blame, evidence, probe }
    }
}

impl From<BackendFault> for Fault {
    /// An error that the backend reported within a response that had begun well. SGLang and TGI report a caller's mistake
    /// so, too.
    fn from(fault: BackendFault) -> Self {
        let what = labelled("the backend reported an error".into(), &fault);
        Self::new(ErrorCode::Internal, Blame::Unclear, what).with_probe()
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
            SendError::Garbled => Self::backend("the backend's response is not HTTP")
                .because(Cause::NotHttp)
                .by_connection()
                .showing(Evidence::Backend),
            SendError::Broke => Self::new(ErrorCode::BackendUnreachable, Blame::Unclear, error.to_string())
                .because(Cause::ConnectionBroke)
                .by_connection()
                .showing(Evidence::Crash),
        }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        Self::backend(error.to_string()).showing(Evidence::Crash)
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

/// The cause of most faults with this code and blame.
fn usual_cause(code: ErrorCode, blame: Blame) -> Cause {
    match (code, blame) {
        (ErrorCode::OutOfCapacity, _) => Cause::BackendsFull,
        (ErrorCode::ModelNotLoaded, _) => Cause::ModelNotLoaded,
        (ErrorCode::BackendUnreachable, _) => Cause::Unreachable,
        (ErrorCode::BackendTimeout, _) => Cause::Deadline,
        (ErrorCode::AuthRejectedByBackend, _) => Cause::KeyRejected,
        (ErrorCode::Internal, Blame::Caller) => Cause::InvalidRequest,
        (ErrorCode::Internal, Blame::Backend | Blame::Unclear) => Cause::BackendError,
        (ErrorCode::Internal, Blame::Agent) => Cause::AgentError,
        (ErrorCode::Internal, Blame::Operator) => Cause::RateLimited,
    }
}

/// What happened, with the label of what the backend says of it.
pub(super) fn labelled(what: String, fault: &BackendFault) -> String {
    match &fault.label {
        Some(label) => format!("{what} ({label})"),
        None => what,
    }
}
