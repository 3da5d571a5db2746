//! Anthropic's wire format: one declaration of each object, for reading and for writing.
//!
//! The type parameter `V` is the JSON of a member that keeps its spelling: `&RawValue` where it is read, `Box<RawValue>`
//! where it is made, `IgnoredAny` where only its presence matters. Members that are not declared are skipped when an object
//! is read. A member that is missing or null is not written, unless its documentation says otherwise.

mod block;
mod error;
mod event;
mod message;
mod request;

pub(crate) use block::Block;
pub(crate) use error::ErrorBody;
pub(crate) use event::{BlockDelta, Event, EventReport, MessageDelta, MessageReport};
pub(crate) use message::{MAX_BLOCKS, Message, Usage};
pub(crate) use request::{ImageSource, Metadata, Request, RequestMessage, ThinkingSetting, Tool, ToolChoice};
