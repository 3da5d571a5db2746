//! What the coordinator sends. `core::session::frames` reads and writes the text of these frames.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use super::{AuthOk, Extensions};
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::{JobId, ModelId};
use crate::messages::members::Members;

/// The values that `deadline_ms` of a `handover`, and `resume_window_ms`, may have.
pub(crate) const EXTENSION_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);

/// A frame from coordinator to agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromCoordinator {
    /// Opens the handshake. The nonce is base64 as received, empty if it is missing.
    AuthChallenge {
        /// Base64 of the bytes to sign.
        nonce: String,
        /// The extensions on offer. Left out if there are none.
        extensions: Extensions,
    },
    /// The agent is authenticated.
    AuthOk(AuthOk),
    /// The agent is refused.
    AuthFailed {
        /// Why, as received.
        reason: Option<String>,
    },
    /// A job to do.
    Job(JobFrame),
    /// A malformed job with a readable id.
    MalformedJob(MalformedJob),
    /// Cancels a job.
    JobCancel {
        /// Which.
        job_id: JobId,
    },
    /// Bytes or the terminal frame of a job were taken over. Only where the extension `resume` was agreed on.
    Ack {
        /// The job.
        job_id: JobId,
        /// What was taken over.
        taken: Taken,
    },
    /// The coordinator will close this connection, and the agent changes to a new one before that. Only where the extension
    /// `handover` was agreed on.
    Handover {
        /// How long the old connection may last, from the receipt. `None` if it is missing or not from 1 s to 10 min.
        deadline: Option<Duration>,
    },
    /// A type that this build does not know.
    Unknown {
        /// The type as received.
        kind: String,
    },
}

/// What a coordinator acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All response bytes before this offset.
    Bytes(u64),
    /// The terminal frame, and with it everything.
    Terminal,
}

/// A well-formed job.
#[derive(Clone, PartialEq, Eq)]
pub struct JobFrame {
    /// Its id.
    pub job_id: JobId,
    /// The requested model.
    pub model_id: ModelId,
    /// The text of a JSON object, a slice of the frame.
    pub request: Bytes,
    /// Where the members of the request are.
    pub members: Members,
    /// The API path that its format stands for.
    pub endpoint: Endpoint,
    /// How long it may take, from receipt.
    pub deadline: Duration,
    /// What it requests if the extension `endpoints` was agreed on. See [`JobFrame::requested`].
    pub target: JobTarget,
}

impl fmt::Debug for JobFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobFrame({}, {} bytes)", self.job_id, self.request.len())
    }
}

/// A job with a readable id and an error in another field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedJob {
    /// Its id.
    pub job_id: JobId,
    /// What is wrong, for the coordinator's operators.
    pub why: &'static str,
}

/// The fields that the extension adds to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobTarget {
    /// `endpoint`.
    pub path: NamedPath,
    /// `stream`: left out or null it means a stream; `None` if it is not a bool.
    pub form: Option<AnswerForm>,
}

/// The value of `endpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedPath {
    /// It is left out or null: `format` determines the path.
    ByFormat,
    /// A known path.
    Known(Endpoint),
    /// Anything else.
    Unknown,
}

impl JobTarget {
    /// What a job of the base protocol requests.
    pub const BASE: Self = Self { path: NamedPath::ByFormat, form: Some(AnswerForm::Stream) };

    /// A job for this path, with a response of this form.
    pub fn new(endpoint: Endpoint, form: AnswerForm) -> Self {
        Self { path: NamedPath::Known(endpoint), form: Some(form) }
    }
}
