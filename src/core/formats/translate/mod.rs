//! Translates Anthropic's messages for servers that only have OpenAI's chat completions.
//!
//! A request for `/v1/messages` becomes one for `/v1/chat/completions` ([`chat_request`]), the backend's stream becomes
//! Anthropic's events ([`MessageEvents`]), and an error of the backend becomes one of Anthropic's ([`error_body`]). Texts
//! keep their spelling. Prompts and answers are not decoded, except the arguments of earlier tool calls, which are JSON in
//! one format and a text in the other.
//!
//! What is lost:
//!
//! - The settings in [`Translated::dropped`]. Marks for caching are left out without a warning, because the servers decide
//!   about caching. So is the thinking of earlier turns, for which chat completions have no standard member.
//! - The flag of a tool result that it is an error becomes a word before its text. Its images move to the user's message
//!   after it, because messages of the role `tool` contain only text.
//! - The order of tool calls and text in an answer: text after a call is moved after all calls, because chat completions do
//!   not define their order.

mod calls;
mod conversation;
mod error;
mod events;
mod fault;
mod frames;
mod request;
mod tools;

pub(crate) use error::error_body;
pub(crate) use events::MessageEvents;
pub(crate) use request::{Thinking, Translated, chat_request};

#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what does not hold ends a test")]
pub(crate) mod tests;
