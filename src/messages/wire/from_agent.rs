//! What the agent sends.

use serde::de::SeqAccess;
use serde::{Deserialize, Serialize};

use super::lenient::{self, FieldValue};
use super::{ErrorCode, Extension, Extensions, ResumeRequest};
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::{JobId, ModelId};

/// The most models of an offer: an agent offers no more, a coordinator takes no more.
pub const MOST_MODELS: usize = 4096;
/// The longest model id of an offer and of a job, in bytes.
pub const LONGEST_MODEL_ID: usize = 512;

/// A frame from agent to coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// The answer to the challenge.
    AuthResponse(AuthResponse),
    /// What the agent can serve now.
    Capabilities(Capabilities),
    /// A sign of life with figures.
    Heartbeat(Heartbeat),
    /// Bytes of a response.
    JobChunk(JobChunk),
    /// A job has succeeded.
    JobDone(JobDone),
    /// A job has failed.
    JobError(JobError),
    /// The agent is being stopped: only if the extension `drain` was agreed on.
    Drain(DrainNotice),
    /// A type that this build does not know. Never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Proof of identity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthResponse {
    /// Base64 of the 32-byte ed25519 public key.
    pub pubkey: String,
    /// Base64 of the 64-byte signature over the raw nonce, or with the extension `auth2` over a statement that contains it.
    pub signature: String,
    /// The agent's version.
    pub agent_version: String,
    /// Only while the agent has no provider id, and if the operator configured a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_code: Option<String>,
    /// The offered ones that the agent will use. Left out if there are none.
    #[serde(default, skip_serializing_if = "Extensions::is_empty", deserialize_with = "Extensions::lenient")]
    pub extensions: Extensions,
    /// Base64 of the agent's 32 random bytes in that statement: only with the extension `auth2`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::field")]
    pub client_nonce: Option<String>,
    /// The session to go on with, where the extension `resume` is used and the agent keeps jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<ResumeRequest>,
}

impl std::fmt::Debug for AuthResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthResponse({}, version {})", self.pubkey, self.agent_version)
    }
}

/// What the agent can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Each model once.
    pub models: Vec<ModelOffer>,
    /// Bounds over all models.
    pub limits: Limits,
    /// About the agent.
    pub metadata: Metadata,
}

impl Capabilities {
    /// The capabilities for a coordinator with which these extensions were agreed on. Without `endpoints` they contain no
    /// paths, and no model without an endpoint of the base protocol; without `sizes` no largest message.
    #[must_use]
    pub fn as_agreed(mut self, agreed: Extensions) -> Self {
        if !agreed.contains(Extension::Endpoints) {
            let usable = |endpoints: Endpoints| !endpoints.common(Endpoints::BASE).is_empty();
            self.models.retain_mut(|model| model.endpoints.take().is_none_or(usable));
        }
        if !agreed.contains(Extension::Sizes) {
            self.limits.max_message_bytes = None;
        }
        self
    }
}

/// A model on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOffer {
    /// The model.
    pub model_id: ModelId,
    /// Micro-USD per million prompt tokens.
    pub input_per_1m: u64,
    /// Micro-USD per million generated tokens.
    pub output_per_1m: u64,
    /// The most concurrent jobs for this model.
    pub max_concurrent: u32,
    /// The kind of backend that serves it. Text, because newer agents may know more kinds than the coordinator.
    pub backend: String,
    /// Tokens of context, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// The endpoints that it has: only if the extension `endpoints` was agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::field")]
    pub endpoints: Option<Endpoints>,
}

/// The list of their paths. Unknown paths are skipped.
impl FieldValue for Endpoints {
    fn of_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let add =
            |endpoints: Self, path: &str| Endpoint::of_path(path).map_or(endpoints, |known| endpoints.with(known));
        lenient::texts(list, Self::NONE, add)
    }
}

/// Bounds over all models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most concurrent jobs over all models.
    pub max_concurrent_total: u32,
    /// The token budget, null if there is none.
    pub max_tokens_per_minute: Option<u64>,
    /// The largest frame that the agent takes, in bytes: only if the extension `sizes` was agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::field")]
    pub max_message_bytes: Option<u64>,
}

/// About the agent itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The agent's version.
    pub agent_version: String,
}

/// Figures of the last 60 s.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Accepted jobs that have not ended.
    pub queue_depth: u64,
    /// Median of output tokens over duration, jobs of the last 60 s.
    pub tokens_per_sec_p50: f64,
    /// Median time from job received to terminal frame, in milliseconds.
    pub p50_latency_ms: u64,
    /// The 95th percentile of the same.
    pub p95_latency_ms: u64,
    /// Errors over ended jobs of the last 60 s, 0 if none ended.
    pub error_rate_60s: f64,
    /// The time of the last error, RFC 3339, null before the first one.
    pub last_error_at: Option<String>,
    /// Its code.
    pub last_error_code: Option<ErrorCode>,
}

/// Bytes of a response.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobChunk {
    /// The job.
    pub job_id: JobId,
    /// The HTTP status of the backend's response: only in a job's first chunk, and only where the extension `endpoints`
    /// was agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::field")]
    pub status: Option<u16>,
    /// The type of the content, without parameters: in the same chunk as the status.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::field")]
    pub content_type: Option<String>,
    /// Response bytes before this chunk: only where the extension `resume` was agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::field")]
    pub offset: Option<u64>,
    /// Base64 of the bytes as the backend sent them.
    pub data: String,
}

impl JobChunk {
    /// A chunk without the head of the response.
    pub fn new(job_id: JobId, data: String) -> Self {
        Self { job_id, data, status: None, content_type: None, offset: None }
    }
}

impl std::fmt::Debug for JobChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobChunk({}, {} base64 characters)", self.job_id, self.data.len())
    }
}

/// Tokens as the backend reported them, 0 if it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// The same as `input`.
    pub input_tokens: u64,
    /// The same as `output`.
    pub output_tokens: u64,
    /// Tokens of the prompt that the backend read from its cache, if it reports that. For the ledger: no frame has it.
    #[serde(skip)]
    pub cached: Option<u64>,
}

impl Tokens {
    /// The counts under both of their names.
    pub fn new(input: u64, output: u64) -> Self {
        Self { input, output, input_tokens: input, output_tokens: output, cached: None }
    }
}

/// A job has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDone {
    /// The job.
    pub job_id: JobId,
    /// What it cost.
    pub tokens: Tokens,
    /// From receipt to this frame.
    pub duration_ms: u64,
}

/// A job has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The job.
    pub job_id: JobId,
    /// The cause.
    pub error_code: ErrorCode,
    /// For people: bounded, without secrets or details of the host.
    pub message: String,
    /// Response bytes already sent in chunks (a historical name).
    pub tokens_emitted: u64,
}

/// The agent is being stopped. It takes no new job, finishes those that it has, and closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainNotice {
    /// Accepted jobs that have not ended.
    pub in_flight: u64,
}
