//! OpenAI's wire format: one declaration of each object, for reading and for writing.
//!
//! The type parameter `V` is the JSON of a member that keeps its spelling: `&RawValue` where it is read, `Box<RawValue>`
//! where it is made, `IgnoredAny` where only its presence matters. Members that are not declared are skipped when an object
//! is read. A member that is missing or null is not written, unless its documentation says otherwise.

mod chat;
mod completion;
mod error;
mod models;
mod request;
mod response;
mod usage;

pub(crate) use chat::{CallPlace, ChatChoice, ChatMessage, Function, KnownCall, MAX_TOOL_CALLS, ToolCall};
pub(crate) use completion::{Completion, CompletionReport, Logprobs, MAX_CHOICES, TextChoice};
pub(crate) use error::ErrorBody;
pub(crate) use models::{Model, ModelList};
pub(crate) use request::{ChatRequest, Content, RequestMessage, StreamOptions};
pub(crate) use response::{Response, ResponseEvent, ResponseUsage};
pub(crate) use usage::{PromptDetails, Timings, Usage};
