//! Why a job failed, and the frame that says so.

use super::{Admission, Room};
use crate::backends::{BodyError, SendError};
use crate::messages::ids::JobId;
use crate::messages::jobs::{Blame, Outcome};
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
    let Fault { code, blame, message, by_connection, .. } = fault;
    let error = JobError { job_id, error_code: code, message, tokens_emitted: 0 };
    let ended = move || admission.ended(Outcome::Failed { code, blame, by_connection });
    let _ = uplink.terminal(lease, FromAgent::JobError(error), room, ended);
}

/// Why a job failed, as the coordinator is told. Nothing in it comes from the host or from a body, but for short labels.
#[derive(Clone, Debug)]
pub(in crate::actors) struct Fault {
    code: ErrorCode,
    blame: Blame,
    message: String,
    /// The backend's connection failed or broke, or its answer makes one doubt its health.
    by_connection: bool,
    /// Another backend may do what this one could not.
    elsewhere: bool,
}

impl Fault {
    pub(super) fn new(code: ErrorCode, blame: Blame, message: impl Into<String>) -> Self {
        Self { code, blame, message: message.into(), by_connection: false, elsewhere: false }
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

    /// This program failed.
    pub(in crate::actors) fn agent(message: impl Into<String>) -> Self {
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

    /// The same, with a look at the backend's health to follow.
    pub(super) fn in_doubt(self) -> Self {
        Self { by_connection: true, ..self }
    }

    /// The same, where another backend may have what this one has not at the moment.
    pub(super) fn worth_another(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    /// Whether another backend may do what this one could not.
    pub(super) fn is_worth_another(&self) -> bool {
        self.elsewhere
    }

    /// Whose fault it is.
    pub(in crate::actors) fn blame(&self) -> Blame {
        self.blame
    }

    /// Whether the backend is worth a look.
    pub(in crate::actors) fn is_by_connection(&self) -> bool {
        self.by_connection
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
                Self::new(ErrorCode::BackendUnreachable, Blame::Backend, "no connection to the backend").by_connection()
            }
            SendError::Garbled => Self::backend("the backend's answer is no HTTP").by_connection(),
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
            AssembleError::TooLarge | AssembleError::TooMany => {
                Self::agent("the backend's answer is too large for one body")
            }
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
