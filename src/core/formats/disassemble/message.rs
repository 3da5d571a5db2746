//! Converts Anthropic's `message` to the sequence of events that its clients expect, each block in one delta.

use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{DisassembleError, read};
use crate::core::formats::anthropic::{Block, BlockDelta, Event, MAX_BLOCKS, Message, MessageDelta};
use crate::core::formats::event_writer::write_event;
use crate::core::json::{each, empty_object, text};

pub(super) fn disassemble(body: &[u8], events: &mut Vec<u8>) -> Result<(), DisassembleError> {
    let message: Message<'_, &RawValue, &RawValue, &RawValue> = read(body)?;
    if message.kind != "message" {
        return Err(DisassembleError::Malformed);
    }
    let Message { content, stop_reason, stop_sequence, usage, .. } = message;
    // Its usage is that of the end, because no other is known.
    let empty: Message<'_, _, [(); 0], _> = Message {
        id: message.id,
        kind: message.kind,
        role: message.role,
        content: Some([]),
        model: message.model,
        stop_reason: None,
        stop_sequence: None,
        usage,
    };
    push(Event { message: Some(empty), ..Event::new("message_start") }, events);
    if let Some(content) = content {
        let mut index = 0;
        each(content, DisassembleError::Malformed, |block| {
            push_block(block, index, events)?;
            index += 1;
            if index > MAX_BLOCKS as u64 { Err(DisassembleError::Malformed) } else { Ok(()) }
        })?;
    }
    let delta = Some(MessageDelta { stop_reason, stop_sequence });
    push(Event { delta, usage: Some(usage.unwrap_or(RawValue::NULL)), ..Event::new("message_delta") }, events);
    push_plain("message_stop", None, events);
    Ok(())
}

fn push_block(whole: &RawValue, index: u64, events: &mut Vec<u8>) -> Result<(), DisassembleError> {
    let block: Block<'_, &RawValue> = read(whole.get().as_bytes())?;
    let delta = BlockDelta::new;
    let empty = text("");
    match block.kind {
        "text" => {
            push_start(index, &Block { text: Some(&*empty), ..Block::new("text") }, events);
            if block.text.is_some() {
                push_delta(index, BlockDelta { text: block.text, ..delta("text_delta") }, events);
            }
        }
        "thinking" => {
            let (thinking, signature) = (Some(&*empty), Some(&*empty));
            push_start(index, &Block { thinking, signature, ..Block::new("thinking") }, events);
            if block.thinking.is_some() {
                push_delta(index, BlockDelta { thinking: block.thinking, ..delta("thinking_delta") }, events);
            }
            if block.signature.is_some() {
                push_delta(index, BlockDelta { signature: block.signature, ..delta("signature_delta") }, events);
            }
        }
        "tool_use" => {
            let input = empty_object();
            let start = Block { id: block.id, name: block.name, input: Some(&*input), ..Block::new("tool_use") };
            push_start(index, &start, events);
            if let Some(input) = block.input {
                let input = text(input.get());
                push_delta(index, BlockDelta { partial_json: Some(&*input), ..delta("input_json_delta") }, events);
            }
        }
        // These are sent whole in a stream too.
        _ => push_start(index, whole, events),
    }
    push_plain("content_block_stop", Some(index), events);
    Ok(())
}

fn push_start(index: u64, block: &(impl Serialize + ?Sized), events: &mut Vec<u8>) {
    push(Event { index: Some(index), content_block: Some(block), ..Event::new("content_block_start") }, events);
}

fn push_delta(index: u64, delta: BlockDelta<'_, &RawValue>, events: &mut Vec<u8>) {
    push(Event { index: Some(index), delta: Some(delta), ..Event::new("content_block_delta") }, events);
}

fn push_plain(kind: &str, index: Option<u64>, events: &mut Vec<u8>) {
    push::<()>(Event { index, ..Event::new(kind) }, events);
}

fn push<P: Serialize>(event: Event<'_, P, &RawValue>, events: &mut Vec<u8>) {
    write_event(events, event.kind, &event);
}
