//! Converts the single body of a server that ignores `stream` into the shortest equivalent stream.
//!
//! The inverse of `assemble`. Values keep their spelling. Responses are not disassembled, because a server that has them
//! streams them. Used by the relay.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::error::read;
use super::event_writer::{DONE, write_event};
use super::openai::{ChatChoice, ChatMessage, Completion, ToolCall};
use crate::core::json::{Few, Object};
use crate::messages::endpoint::Endpoint;

mod error;
mod message;

pub(crate) use error::DisassembleError;

/// The stream that is equivalent to a successful response body, with its end mark.
pub(crate) fn disassemble(endpoint: Endpoint, body: &[u8]) -> Result<Vec<u8>, DisassembleError> {
    let mut events = Vec::with_capacity(body.len().saturating_add(512));
    match endpoint {
        Endpoint::ChatCompletions => chat(body, &mut events)?,
        Endpoint::Completions => text(body, &mut events)?,
        Endpoint::Messages => message::disassemble(body, &mut events)?,
        Endpoint::Responses | Endpoint::Embeddings => return Err(DisassembleError::NoStream),
    }
    Ok(events)
}

/// A `text_completion` is its own event: streamed ones have the same form.
fn text(body: &[u8], events: &mut Vec<u8>) -> Result<(), DisassembleError> {
    let completion: Completion<'_, IgnoredAny, IgnoredAny> = read(body)?;
    completion.choices.ok_or(DisassembleError::Malformed)?;
    let body: &RawValue = serde_json::from_slice(body).map_err(|_| DisassembleError::Malformed)?;
    write_event(events, "", body);
    events.extend_from_slice(DONE);
    Ok(())
}

/// A `chat.completion` becomes one chunk with the content of its choices, and one with the usage.
fn chat(body: &[u8], events: &mut Vec<u8>) -> Result<(), DisassembleError> {
    let completion: Completion<'_, &RawValue, ChatChoice<&RawValue>> = read(body)?;
    let (usage, timings) = (completion.usage, completion.timings);
    let choices = completion.choices.and_then(Few::into_vec).ok_or(DisassembleError::Malformed)?;
    let choices = choices.into_iter().zip(0..).map(|(choice, place)| delta(choice, place)).collect::<Result<_, _>>()?;
    let object = "chat.completion.chunk";
    let chunk = Completion { object, choices: Some(Few::of(choices)), usage: None, timings: None, ..completion };
    write_event(events, "", &chunk);
    if usage.is_some() || timings.is_some() {
        write_event(events, "", &Completion { choices: Some(Few::of(Vec::new())), usage, timings, ..chunk });
    }
    events.extend_from_slice(DONE);
    Ok(())
}

fn delta(choice: ChatChoice<&RawValue>, place: u64) -> Result<ChatChoice<&RawValue>, DisassembleError> {
    let Object(message) = choice.message.ok_or(DisassembleError::Malformed)?;
    let calls = elements(message.tool_calls)?.into_iter().zip(0..);
    let calls: Vec<_> = calls.map(|(call, index)| ToolCall { index: Some(index), ..call }).collect();
    let tool_calls = if calls.is_empty() { None } else { Some(Few::of(calls)) };
    Ok(ChatChoice {
        index: Some(choice.index.unwrap_or(place)),
        message: None,
        delta: Some(Object(ChatMessage { tool_calls, ..message })),
        stop_reason: None,
        matched_stop: None,
        ..choice
    })
}

/// The elements of a list; none where it is missing.
fn elements<T, const N: usize>(list: Option<Few<T, N>>) -> Result<Vec<T>, DisassembleError> {
    list.map_or(Some(Vec::new()), Few::into_vec).ok_or(DisassembleError::Malformed)
}

#[cfg(test)]
mod tests;
