//! Why a job failed, and the frame that says so.

use super::{Admission, Room};
use crate::backends::{BodyError, SendError};
use crate::messages::ids::JobId;
use crate::messages::jobs::Outcome;
use crate::messages::wire::{ErrorCode, FromAgent, JobError};
use crate::protocol::assemble::AssembleError;
use crate::protocol::usage::BackendFault;
use crate::transport::lease::JobLease;
use crate::transport::uplink::{LinkGone, Uplink};

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
    let Fault { code, message, by_connection } = fault;
    let error = JobError { job_id, error_code: code, message, tokens_emitted: 0 };
    let ended = move || admission.ended(Outcome::Failed { code, by_connection });
    let _ = uplink.terminal(lease, FromAgent::JobError(error), room, ended);
}

/// Why a job failed, as the coordinator is told. Nothing in it comes from the host or from a body, but for short labels.
#[derive(Debug)]
pub(in crate::actors) struct Fault {
    code: ErrorCode,
    message: String,
    /// The backend's connection failed or broke.
    by_connection: bool,
}

impl Fault {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), by_connection: false }
    }

    /// Anything that has no code of its own.
    pub(in crate::actors) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// The same, with the backend's connection to blame.
    pub(super) fn by_connection(self) -> Self {
        Self { by_connection: true, ..self }
    }
}

impl From<BackendFault> for Fault {
    /// An error that the backend reported within a response that had begun well.
    fn from(fault: BackendFault) -> Self {
        Self::internal(labelled("the backend reported an error".into(), &fault))
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

impl From<AssembleError> for Fault {
    fn from(error: AssembleError) -> Self {
        match error {
            AssembleError::Failed(fault) => fault.into(),
            AssembleError::Truncated => {
                Self::internal("the backend's response ended without its end mark").by_connection()
            }
            AssembleError::TooLarge | AssembleError::TooMany => {
                Self::internal("the backend's answer is too large for one body")
            }
            AssembleError::Malformed | AssembleError::Empty => {
                Self::internal("the backend's stream is not of the kind that was asked for")
            }
        }
    }
}

/// The connection went away under the job: whatever is reported now reaches nobody.
impl From<LinkGone> for Fault {
    fn from(gone: LinkGone) -> Self {
        Self::internal(gone.to_string())
    }
}

/// What happened, with the label of what the backend says of it.
pub(super) fn labelled(what: String, fault: &BackendFault) -> String {
    match &fault.label {
        Some(label) => format!("{what} ({label})"),
        None => what,
    }
}
