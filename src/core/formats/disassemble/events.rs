//! The event stream that a body is disassembled into.

use serde::{Deserialize, Serialize};

use crate::core::formats::assemble::parts::{Few, object};

/// Why a body makes no stream. It says nothing of what the body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisassembleError {
    /// The endpoint's bodies are not disassembled.
    #[error("an answer of this kind can't be made a stream")]
    NoStream,
    /// It is not of its endpoint's format, or has more parts than anybody asks for.
    #[error("the body is no answer of its kind")]
    Malformed,
}

/// A stream in the making.
pub(super) struct Events(Vec<u8>);

impl Events {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends an event, named where there is a name.
    pub(super) fn push(&mut self, name: &str, data: &impl Serialize) -> Result<(), DisassembleError> {
        let Self(out) = self;
        if !name.is_empty() {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
        }
        out.extend_from_slice(b"data: ");
        let start = out.len();
        serde_json::to_writer(&mut *out, data).map_err(|_| DisassembleError::Malformed)?;
        // Between the tokens of JSON a line break is as good as a space; within a string there is none.
        for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        out.extend_from_slice(b"\n\n");
        Ok(())
    }

    pub(super) fn done(&mut self) {
        self.0.extend_from_slice(b"data: [DONE]\n\n");
    }
}

pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, DisassembleError> {
    object(json).map_err(|_| DisassembleError::Malformed)
}

/// The elements of a list; none where it is missing.
pub(super) fn elements<T, const N: usize>(list: Option<Few<T, N>>) -> Result<Vec<T>, DisassembleError> {
    list.map_or(Ok(Vec::new()), |list| list.into_vec().map_err(|_| DisassembleError::Malformed))
}
