//! Converts the single body of a server that ignores `stream` into the shortest equivalent stream.
//!
//! The inverse of `assemble`. Values keep their spelling. Responses are not disassembled, because a server that has them
//! streams them. Used by the relay.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::events::{Events, elements, read};
use super::assemble::parts::{Few, MAX_CHOICES, MAX_TOOL_CALLS};
use crate::messages::endpoint::Endpoint;

mod events;
mod message;

pub use events::DisassembleError;

/// The stream that is equivalent to a successful response body, with its end mark.
pub fn disassemble(endpoint: Endpoint, body: &[u8]) -> Result<Vec<u8>, DisassembleError> {
    let mut events = Events::with_capacity(body.len().saturating_add(512));
    match endpoint {
        Endpoint::ChatCompletions => chat(body, &mut events)?,
        Endpoint::Completions => text(body, &mut events)?,
        Endpoint::Messages => message::disassemble(body, &mut events)?,
        Endpoint::Responses | Endpoint::Embeddings => return Err(DisassembleError::NoStream),
    }
    Ok(events.into_bytes())
}

/// A `text_completion` is its own event: streamed ones have the same form.
fn text(body: &[u8], events: &mut Events) -> Result<(), DisassembleError> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, rename = "choices")]
        _choices: Few<&'a RawValue, MAX_CHOICES>,
    }
    read::<Shape<'_>>(body)?;
    let body: &RawValue = serde_json::from_slice(body).map_err(|_| DisassembleError::Malformed)?;
    events.push("", &body)?;
    events.done();
    Ok(())
}

/// A `chat.completion` becomes one chunk with the content of its choices, and one with the usage.
fn chat(body: &[u8], events: &mut Events) -> Result<(), DisassembleError> {
    let completion: Completion<'_> = read(body)?;
    let given = completion.choices.into_vec().map_err(|_| DisassembleError::Malformed)?;
    let choices = given.into_iter().zip(0..).map(|(choice, place)| delta(choice, place)).collect::<Result<_, _>>()?;
    let mut chunk = Chunk {
        id: completion.id,
        object: "chat.completion.chunk",
        created: completion.created,
        model: completion.model,
        system_fingerprint: completion.system_fingerprint,
        choices,
        usage: None,
        timings: None,
    };
    events.push("", &chunk)?;
    if completion.usage.is_some() || completion.timings.is_some() {
        chunk.choices = Vec::new();
        chunk.usage = completion.usage;
        chunk.timings = completion.timings;
        events.push("", &chunk)?;
    }
    events.done();
    Ok(())
}

fn delta(choice: &RawValue, place: u64) -> Result<ChunkChoice<'_>, DisassembleError> {
    let choice: Choice<'_> = read(choice.get().as_bytes())?;
    let message: Message<'_> = read(choice.message.get().as_bytes())?;
    let calls = elements(message.tool_calls)?.into_iter().zip(0..);
    let tool_calls = calls
        .map(|(call, index)| {
            let ToolCall { id, kind, function } = read(call.get().as_bytes())?;
            Ok(ToolDelta { index, id, kind, function })
        })
        .collect::<Result<_, _>>()?;
    let Message { role, content, reasoning_content, reasoning, refusal, .. } = message;
    Ok(ChunkChoice {
        index: choice.index.unwrap_or(place),
        delta: Delta { role, content, reasoning_content, reasoning, refusal, tool_calls },
        logprobs: choice.logprobs,
        finish_reason: choice.finish_reason,
    })
}

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    system_fingerprint: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Few<&'a RawValue, MAX_CHOICES>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    timings: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Few<&'a RawValue, MAX_TOOL_CALLS>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'a RawValue>,
    choices: Vec<ChunkChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u64,
    delta: Delta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawValue>,
    finish_reason: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolDelta<'a>>,
}

#[derive(Serialize)]
struct ToolDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests;
