//! Why a stream cannot be assembled into one body.

use crate::core::formats::usage::BackendFault;

/// Why a stream makes no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// It broke off before its end mark.
    #[error("the stream broke off")]
    Truncated,
    /// The backend reported an error within it.
    #[error("the backend reported an error")]
    Failed(BackendFault),
    /// It holds more than the limit.
    #[error("the response is too large")]
    TooLarge,
    /// More choices, tool calls or content blocks than anybody asks for, or an index beyond them.
    #[error("the response has too many parts")]
    TooMany,
    /// An event that is not of the format.
    #[error("the stream is not of its format")]
    Malformed,
    /// The end mark came, and no answer before it.
    #[error("the stream holds no answer")]
    Empty,
}
