//! Why a stream cannot be assembled to one body.

use crate::core::formats::usage::BackendFault;

/// Why a stream cannot be assembled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// It broke off before its end mark.
    #[error("the stream broke off")]
    Truncated,
    /// The backend reported an error within it.
    #[error("the backend reported an error")]
    Failed(BackendFault),
    /// It is larger than the limit.
    #[error("the response is too large")]
    TooLarge,
    /// More choices, tool calls or content blocks than the bounds allow, or an index beyond them.
    #[error("the response has too many parts")]
    TooMany,
    /// An event that is not of the format.
    #[error("the stream is not of its endpoint's format")]
    Malformed,
    /// There is no response before the end mark.
    #[error("there is no response in the stream")]
    Empty,
}
