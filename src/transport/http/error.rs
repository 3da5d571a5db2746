//! Why a request has no response, or a response no end. Made by the whole client.

/// Why no response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// Refused, not resolved, not verified, or closed before any byte of the request was written.
    #[error("no connection to the server")]
    Unreachable,
    /// The connection broke after a byte of the request was written and before the head of a response was complete: the
    /// request may be the cause.
    #[error("the connection broke before the response")]
    Broke,
    /// The response is not valid HTTP.
    #[error("the response is not valid HTTP")]
    Garbled,
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpBodyError {
    /// Reset, cut, or not as its framing says.
    #[error("the response ended early")]
    Broken,
    /// A content encoding that was not requested.
    #[error("the response is encoded")]
    Encoded,
}
