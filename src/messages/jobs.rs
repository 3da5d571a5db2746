//! Jobs as the actors see them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::cause::Cause;
use super::endpoint::{AnswerForm, Endpoint};
use super::ids::{JobId, ModelId};
use super::json::Members;
use super::wire::{ErrorCode, Tokens};

/// The longest deadline that is held to: far enough, and near enough for a timer.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A job that came down the wire, well formed. It has no `Debug` of its fields: the request is somebody's prompt.
#[derive(Clone)]
pub struct Job {
    /// The coordinator's id for it.
    pub id: JobId,
    /// The model asked for.
    pub model: ModelId,
    /// The shape of the request.
    pub endpoint: Endpoint,
    /// The form of the answer.
    pub form: AnswerForm,
    /// The request body as received: the text of one JSON object, a slice of the frame it came in.
    pub request: Bytes,
    /// Where the members of the request are.
    pub members: Members,
    /// When it was received.
    pub received: Instant,
    /// How long it may take, counted from receipt.
    pub deadline: Duration,
}

impl Job {
    /// When its deadline passes.
    pub fn until(&self) -> Instant {
        self.received + self.deadline.min(FAR)
    }

    /// Whether its deadline has passed.
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.until()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({}, {} bytes)", self.id, self.request.len())
    }
}

/// Numbers the admissions of a process. A job id may come again after it ended; its admission is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request, its deadline, or whoever made them.
    Caller,
    /// The inference server, or the way to it.
    Backend,
    /// The caller or the backend: a server that answers 500 does not say, and some do so to a bad request.
    Unclear,
    /// This program.
    Agent,
    /// What the operator has set: limits, keys, the order to stop.
    Operator,
}

impl Blame {
    /// The name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Backend => "backend",
            Self::Unclear => "unclear",
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

/// What a failed job shows of the backend that failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Nothing: the request, its caller, the operator or this program is to blame.
    Nothing,
    /// The backend fails whatever it is asked for: it takes no connection, or does not speak HTTP.
    Backend,
    /// The backend is overloaded. Its callers may have done that, so this job alone proves nothing; that another backend
    /// then does the job shows that the job was not at fault.
    Overload,
    /// The backend broke while it worked the job. The job may have done that, so it alone proves nothing; that another
    /// backend then does the job shows that the job was not at fault, that another one breaks too shows that it was.
    Crash,
}

/// Why a job failed, as far as anything is decided from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in one word.
    pub cause: Cause,
    /// The code on the wire.
    pub code: ErrorCode,
    /// Who is to blame.
    pub blame: Blame,
    /// What it shows of the backend.
    pub evidence: Evidence,
    /// Whether the backend should be probed at once.
    pub probe: bool,
}

/// How an accepted job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was sent, then `job_done`.
    Done {
        /// What the backend reported.
        tokens: Tokens,
    },
    /// `job_error` was sent.
    Failed(Failure),
    /// It was cancelled, or its connection ended: nothing more is sent of it.
    Cancelled,
}

/// An accepted job has ended: its last frame was written, or there will be none.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct JobEnded {
    /// The admission that ended.
    pub ticket: Ticket,
    /// How.
    pub outcome: Outcome,
    /// From receipt to the terminal frame.
    pub duration: Duration,
}
