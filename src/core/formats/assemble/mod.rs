//! Assembles a streamed response to the single JSON body for a client that does not stream.
//!
//! Backends always get a request for a stream, because only a stream is reliably cancelled. Text is not decoded: the
//! spellings of the deltas are concatenated. The input is bounded in size and in number of parts. Members that a format
//! does not name are left out.

mod assembly;
mod completion;
mod error;
mod parts;

pub(crate) mod anthropic;
pub(crate) mod completions;
pub(crate) mod openai;
pub(crate) mod responses;

pub use assembly::Assembly;
pub(crate) use assembly::Whole;
pub(crate) use error::AssembleError;

#[cfg(test)]
mod tests;
