//! Anthropic's messages for servers that only have OpenAI's chat completions.
//!
//! A request for `/v1/messages` becomes one for `/v1/chat/completions` ([`chat_request`]), the backend's stream becomes
//! Anthropic's events ([`MessageEvents`]), and an error of the backend becomes one of Anthropic's ([`error_body`]). Texts
//! are passed on as they are spelled; nothing of what a prompt or an answer says is decoded, but for the arguments of
//! earlier tool calls, which are JSON here and a text there.
//!
//! What does not survive:
//!
//! - The settings in [`Translated::dropped`]. Marks for caching are left out without a word: the servers cache as they
//!   like. So is the thinking of earlier turns, which chat completions have no agreed place for.
//! - A tool result's flag that it is an error is a word before its text, and its images move to the user's message after
//!   it: messages of the role `tool` hold only text.
//! - What a tool call and a text that follows it say is kept, but not which came first: text after a call comes after
//!   all calls, for in a chat completion the two have no order.

mod calls;
mod conversation;
mod error;
mod events;
mod fault;
mod frames;
mod json;
mod request;
mod tools;

pub use error::error_body;
pub use events::{LONGEST_EVENT, MessageEvents};
pub use fault::TranslateError;
pub use request::{Thinking, Translated, chat_request};
