//! Converts Anthropic's `message` to the sequence of events that its clients expect, each block in one delta.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::events::{DisassembleError, Events, elements, read};
use crate::core::formats::assemble::parts::{Few, MAX_BLOCKS};
use crate::core::json::is_text;

pub(super) fn disassemble(body: &[u8], events: &mut Events) -> Result<(), DisassembleError> {
    let message: Message<'_> = read(body)?;
    if !is_text(message.kind, "message") {
        return Err(DisassembleError::Malformed);
    }
    let begun = Begun {
        id: message.id,
        kind: "message",
        role: message.role,
        content: [],
        model: message.model,
        stop_reason: None,
        stop_sequence: None,
        usage: message.usage,
    };
    events.push("message_start", &Event::MessageStart { message: begun })?;
    for (block, index) in elements(message.content)?.into_iter().zip(0..) {
        push_block(block, index, events)?;
    }
    let delta = Stop { stop_reason: message.stop_reason, stop_sequence: message.stop_sequence };
    events.push("message_delta", &Event::MessageDelta { delta, usage: message.usage })?;
    events.push("message_stop", &Event::MessageStop {})
}

fn push_block(whole: &RawValue, index: usize, events: &mut Events) -> Result<(), DisassembleError> {
    let block: Block<'_> = read(whole.get().as_bytes())?;
    let is = |kind| is_text(block.kind, kind);
    let mut deltas = Vec::new();
    let start = if is("text") {
        deltas.extend(block.text.map(|text| Delta::Text { text }));
        Start::Text { text: "" }
    } else if is("thinking") {
        deltas.extend(block.thinking.map(|thinking| Delta::Thinking { thinking }));
        deltas.extend(block.signature.map(|signature| Delta::Signature { signature }));
        Start::Thinking { thinking: "", signature: "" }
    } else if is("tool_use") {
        deltas.extend(block.input.map(|input| Delta::InputJson { partial_json: input.get() }));
        Start::ToolUse { id: block.id, name: block.name, input: Nothing {} }
    } else {
        // These are sent whole in a stream too.
        let event = Event::ContentBlockStart { index, content_block: Cow::Borrowed(whole) };
        events.push("content_block_start", &event)?;
        return events.push("content_block_stop", &Event::ContentBlockStop { index });
    };
    let start = serde_json::value::to_raw_value(&start).map_err(|_| DisassembleError::Malformed)?;
    let event = Event::ContentBlockStart { index, content_block: Cow::Owned(start) };
    events.push("content_block_start", &event)?;
    for delta in deltas {
        events.push("content_block_delta", &Event::ContentBlockDelta { index, delta })?;
    }
    events.push("content_block_stop", &Event::ContentBlockStop { index })
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<Few<&'a RawValue, MAX_BLOCKS>>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart { message: Begun<'a> },
    ContentBlockStart { index: usize, content_block: Cow<'a, RawValue> },
    ContentBlockDelta { index: usize, delta: Delta<'a> },
    ContentBlockStop { index: usize },
    MessageDelta { delta: Stop<'a>, usage: Option<&'a RawValue> },
    MessageStop {},
}

/// The message without content. Its usage is that of the end, because no other is known.
#[derive(Serialize)]
struct Begun<'a> {
    id: Option<&'a RawValue>,
    #[serde(rename = "type")]
    kind: &'static str,
    role: Option<&'a RawValue>,
    content: [(); 0],
    model: Option<&'a RawValue>,
    stop_reason: Option<()>,
    stop_sequence: Option<()>,
    usage: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Stop<'a> {
    stop_reason: Option<&'a RawValue>,
    stop_sequence: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Start<'a> {
    Text { text: &'static str },
    Thinking { thinking: &'static str, signature: &'static str },
    ToolUse { id: Option<&'a RawValue>, name: Option<&'a RawValue>, input: Nothing },
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a RawValue },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a RawValue },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a RawValue },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}
