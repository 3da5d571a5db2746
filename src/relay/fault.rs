//! Why a job failed, and the frames that report it.

use std::fmt;

use bytes::Bytes;

use super::job_stream::JobStream;
use super::sender::ChunkSender;
use crate::backends::{BodyError, SendError};
use crate::core::formats::assemble::AssembleError;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::usage::BackendFault;
use crate::core::scheduling::router::Refusal;
use crate::messages::jobs::{Blame, Evidence, Failure, Outcome};
use crate::messages::wire::{ErrorCode, FromAgent, JobError};

/// The message if a bound of this program was exceeded.
pub(super) const TOO_LARGE: &str = "the backend's response is too large to be held";

/// Ends a job with `job_error`, unless it has ended. `ended` is called when that frame is written.
pub(crate) fn end(stream: &JobStream, fault: Fault, ended: impl FnOnce(Outcome) + Send + 'static) {
    let failure = fault.failure();
    let (job_id, error_code, message) = (stream.job(), failure.code, fault.message);
    let error = JobError { job_id, error_code, message, tokens_emitted: 0 };
    stream.end(FromAgent::JobError(error), Box::new(move || ended(Outcome::Failed(failure))));
}

/// Ends a job with `job_error`, unless another task ends it first. The backend's error body is sent before it, if the
/// connection carries heads, as there is room for it: a failing job needs no more memory than a running one.
pub(crate) async fn give_up(stream: &JobStream, mut fault: Fault, ended: impl FnOnce(Outcome) + Send + 'static) {
    if let Some(response) = fault.response.take().filter(|_| stream.carries_heads()) {
        let ErrorResponse { status, content_type, body } = *response;
        let mut copy = None;
        let mut sender = ChunkSender::new(stream, &mut copy);
        sender.begin(status, &content_type);
        tokio::select! {
            biased;
            () = stream.stopped() => return,
            () = sender.append_all(&body) => {}
        }
    }
    end(stream, fault, ended);
}

/// A backend's error response, for the client.
#[derive(Clone)]
pub(super) struct ErrorResponse {
    pub(super) status: u16,
    pub(super) content_type: String,
    /// At most [`ERROR_BODY_LIMIT`](crate::core::formats::error_body::ERROR_BODY_LIMIT), or the translation of that.
    pub(super) body: Bytes,
}

impl fmt::Debug for ErrorResponse {
    /// Without the body, which may repeat the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorResponse({}, {} bytes)", self.status, self.body.len())
    }
}

/// Why a job failed, as it is reported to the coordinator. It contains nothing from the host and nothing from a body,
/// except short labels and the backend's error response.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    code: ErrorCode,
    blame: Blame,
    message: String,
    /// The backend is to be probed: its connection failed, or its response raises doubts about its health.
    probe: bool,
    /// The job may succeed on another backend.
    retryable: bool,
    /// What it shows about the backend.
    evidence: Evidence,
    /// For the client, if the connection carries heads.
    response: Option<Box<ErrorResponse>>,
}

impl Fault {
    pub(super) fn new(code: ErrorCode, blame: Blame, message: impl Into<String>) -> Self {
        Self {
            code,
            blame,
            message: message.into(),
            probe: false,
            retryable: false,
            evidence: Evidence::Nothing,
            response: None,
        }
    }

    /// A failure of the backend that has no code of its own.
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
        Self::new(refusal.code(), Blame::Operator, refusal.to_string())
    }

    /// The job's worker or pool was lost.
    pub(crate) fn worker_lost() -> Self {
        Self::agent("the agent failed while working the job")
    }

    /// A failure of this program.
    pub(super) fn agent(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, Blame::Agent, message)
    }

    /// The operator has ended it.
    pub(crate) fn stopping() -> Self {
        Self::new(ErrorCode::Internal, Blame::Operator, "the agent is stopping")
    }

    /// The same, caused by the backend's connection: the backend is probed, and the job may be retried on another one.
    pub(super) fn by_connection(self) -> Self {
        Self { probe: true, retryable: true, ..self }
    }

    /// The same, with what it shows about the backend.
    pub(super) fn showing(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }

    /// The same, and the backend is probed.
    pub(super) fn with_probe(self) -> Self {
        Self { probe: true, ..self }
    }

    /// The same, and the job may succeed on another backend.
    pub(super) fn retryable(self) -> Self {
        Self { retryable: true, ..self }
    }

    /// The same, with an error response for the client.
    pub(super) fn with_response(self, response: ErrorResponse) -> Self {
        Self { response: Some(Box::new(response)), ..self }
    }

    /// The same, without any text that contains the backend's API key.
    pub(super) fn without_key(mut self, key: &KeyTrace) -> Self {
        if key.is_in(self.message.as_bytes()) {
            self.message = "the backend failed with an error that contains its API key".to_owned();
        }
        self.response = self.response.filter(|sent| !key.is_in(&sent.body) && !key.is_in(sent.content_type.as_bytes()));
        self
    }

    /// Whether the job may succeed on another backend.
    pub(super) fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The parts of it that decisions depend on.
    pub(crate) fn failure(&self) -> Failure {
        let Self { code, blame, evidence, probe, .. } = *self;
        Failure { code, blame, evidence, probe }
    }
}

impl From<BackendFault> for Fault {
    /// An error that the backend reported after its response had begun successfully. SGLang and TGI report client errors in
    /// this way, too.
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
            SendError::Garbled => {
                Self::backend("the backend's response is not HTTP").by_connection().showing(Evidence::Backend)
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
                Self::backend("the backend's stream is not of the requested kind")
            }
        }
    }
}

/// A message, with the label of the backend's error.
pub(super) fn labelled(what: String, fault: &BackendFault) -> String {
    match &fault.label {
        Some(label) => format!("{what} ({label})"),
        None => what,
    }
}
