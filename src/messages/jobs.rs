//! Jobs, their outcomes, and the messages that submit, cancel and end them.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cause::Cause;
use super::endpoint::{AnswerForm, Endpoint};
use super::ids::{Generation, JobId, ModelId};
use super::members::Members;
use super::wire::{ErrorCode, JobError, MalformedJob, Taken, Tokens};

/// Longer deadlines are cut to this one, which a timer can hold.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A well-formed job from the coordinator. Its `Debug` does not show the request, which is a prompt.
#[derive(Clone)]
pub(crate) struct Job {
    /// The coordinator's id for it.
    pub id: JobId,
    /// The requested model.
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
    pub(crate) fn until(&self) -> Instant {
        self.received + self.deadline.min(FAR)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({}, {} bytes)", self.id, self.request.len())
    }
}

/// Numbers the accepted jobs of a process. A job id may be reused after its job ended; the ticket is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The party that caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request, its deadline, or the client that sent them.
    Caller,
    /// The inference server, or the network path to it.
    Backend,
    /// The caller or the backend: a 500 does not tell them apart, and some servers send it for a bad request.
    Unclear,
    /// This program.
    Agent,
    /// The operator's settings: limits, keys, a shutdown.
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

/// What a failed job shows about the backend that failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Nothing: the request, its caller, the operator or this program is to blame.
    Nothing,
    /// The backend fails for any request: it accepts no connection, or does not speak HTTP.
    Backend,
    /// The backend is overloaded. Its clients may be the cause, so this job alone proves nothing. If another backend then
    /// does the job, the job was not the cause.
    Overload,
    /// The backend crashed while it worked the job. The job may be the cause, so it alone proves nothing. If another backend
    /// then does the job, the job was not the cause; if another one crashes too, it was.
    Crash,
}

/// Why a job failed, as far as decisions depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in one word.
    pub cause: Cause,
    /// The code on the wire.
    pub code: ErrorCode,
    /// Who is to blame.
    pub blame: Blame,
    /// What it shows about the backend.
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
    /// It was cancelled, or its connection ended: nothing more of it is sent.
    Cancelled,
}

/// An accepted job has ended: its last frame was written, or none will be.
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

/// Connection to router: a job was received, or a malformed one with a readable id.
#[derive(actix::Message)]
#[rtype(result = "SubmitReply")]
pub(crate) struct SubmitJob {
    pub(crate) generation: Generation,
    pub(crate) job: Result<Job, MalformedJob>,
}

/// What the connection does after it submitted a job.
pub(crate) enum SubmitReply {
    /// Nothing: the job was accepted, or is of an earlier connection.
    Nothing,
    /// Skip the frame: a job with this id is running, and an answer would end it.
    AlreadyRuns,
    /// Skip the frame: a job with this id has ended in this session.
    AlreadyEnded,
    /// Send this frame.
    Refused(JobError),
}

/// Connection to router: cancel a job.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct CancelJob {
    pub(crate) generation: Generation,
    pub(crate) job: JobId,
}

/// Connection to router: the coordinator has taken over a part of a job.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Acknowledged {
    pub(crate) generation: Generation,
    pub(crate) job: JobId,
    pub(crate) taken: Taken,
}
