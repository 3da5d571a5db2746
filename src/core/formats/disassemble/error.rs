//! Why a body cannot be converted to a stream.

use serde::Deserialize;

use crate::core::json::object;

/// Why a body cannot be converted to a stream. It contains nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DisassembleError {
    /// The endpoint's bodies are not disassembled.
    #[error("a response of this endpoint can't be made a stream")]
    NoStream,
    /// It is not of its endpoint's format, or has too many parts.
    #[error("the body is not a response of its endpoint")]
    Malformed,
}

/// Reads a struct from a JSON object.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, DisassembleError> {
    object(json).ok_or(DisassembleError::Malformed)
}
