//! Folds a streamed response into the one JSON body that a client without streaming wants.
//!
//! Backends are always asked for a stream, because only there is a cancellation dependable. Text is not decoded on its
//! way: the spelling of the deltas is joined as it is. What comes in is bounded in size and in number; what a format
//! does not name is left out.

mod assembly;
mod error;
pub(super) mod parts;

pub mod anthropic;
pub mod completions;
pub mod openai;
pub mod responses;

pub use assembly::{Assembly, Whole};
pub use error::AssembleError;

#[cfg(test)]
mod tests;
