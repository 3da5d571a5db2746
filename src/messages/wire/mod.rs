//! The frames of the wire protocol, both directions.
//!
//! Incoming frames are read leniently: unknown fields and types are ignored. Outgoing frames are complete.

mod binary_chunk;
mod code;
mod extensions;
mod from_agent;
mod from_coordinator;
mod lenient;
mod response_head;
mod resume;

pub use binary_chunk::{BINARY_CHUNK_HEAD, BinaryChunk, BinaryChunkError};
pub use code::ErrorCode;
pub use extensions::{Extension, Extensions};
pub use from_agent::{
    AuthResponse, Capabilities, DrainNotice, FromAgent, Heartbeat, JobChunk, JobDone, JobError, LONGEST_MODEL_ID,
    Limits, MOST_MODELS, Metadata, ModelOffer, Tokens,
};
pub(crate) use from_coordinator::EXTENSION_TIMES;
pub use from_coordinator::{FromCoordinator, JobFrame, JobTarget, MalformedJob, NamedPath, Taken};
pub use response_head::ResponseHead;
pub use resume::{AuthOk, KeptJob, ResumeRequest, WantedJob};
