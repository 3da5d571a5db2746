//! Anthropic's events as bytes, with numbered content blocks, each closed before the next one opens.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::core::formats::anthropic::{Block, BlockDelta, ErrorBody, Event, Message, MessageDelta, Usage};
use crate::core::formats::event_writer::write_event;
use crate::core::json::{empty_object, text};

/// The kinds of generated text, in addition to tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// The answer.
    Text,
    /// The thinking before it.
    Thinking,
}

/// The content blocks of one message. The texts that it gets keep their spelling.
#[derive(Default)]
pub(super) struct Blocks {
    open: Option<Open>,
    /// The index of the open block, or else of the next one.
    index: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Generated(Voice),
    Tool,
}

impl Blocks {
    /// Continues the block of this kind, or begins one. Nothing happens if the text is empty.
    pub(super) fn say(&mut self, voice: Voice, text: &RawValue, out: &mut BytesMut) {
        if is_empty(text) {
            return;
        }
        if self.open != Some(Open::Generated(voice)) {
            let block = match voice {
                Voice::Text => Block { text: Some(""), ..Block::new("text") },
                Voice::Thinking => Block { thinking: Some(""), signature: Some(""), ..Block::new("thinking") },
            };
            self.begin(Open::Generated(voice), &block, out);
        }
        let delta = match voice {
            Voice::Text => BlockDelta { text: Some(text), ..BlockDelta::new("text_delta") },
            Voice::Thinking => BlockDelta { thinking: Some(text), ..BlockDelta::new("thinking_delta") },
        };
        self.delta(delta, out);
    }

    /// Begins the block of a tool call.
    pub(super) fn begin_tool(&mut self, id: &RawValue, name: &RawValue, out: &mut BytesMut) {
        let input = empty_object();
        let block = Block { id: Some(id), name: Some(name), input: Some(&*input), ..Block::new("tool_use") };
        self.begin(Open::Tool, &block, out);
    }

    /// Continues the open tool call. Nothing happens if the text is empty.
    pub(super) fn tool_input(&mut self, text: &RawValue, out: &mut BytesMut) {
        if !is_empty(text) {
            self.delta(BlockDelta { partial_json: Some(text), ..BlockDelta::new("input_json_delta") }, out);
        }
    }

    /// Closes the open block, if there is one.
    pub(super) fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            write::<(), ()>(Event { index: Some(self.index), ..Event::new("content_block_stop") }, out);
            self.index += 1;
        }
    }

    fn begin(&mut self, open: Open, block: &impl Serialize, out: &mut BytesMut) {
        self.close(out);
        self.open = Some(open);
        let (index, content_block) = (Some(self.index), Some(block));
        write::<_, ()>(Event { index, content_block, ..Event::new("content_block_start") }, out);
    }

    fn delta(&self, delta: BlockDelta<'_, &RawValue>, out: &mut BytesMut) {
        let (index, delta) = (Some(self.index), Some(delta));
        write::<_, ()>(Event { index, delta, ..Event::new("content_block_delta") }, out);
    }
}

/// The event that begins a message.
pub(super) fn message_start(id: &RawValue, model: &RawValue, usage: Usage, out: &mut BytesMut) {
    let role = text("assistant");
    let message: Message<'_, _, [(); 0], _> = Message {
        id: Some(id),
        kind: "message",
        role: Some(&*role),
        content: Some([]),
        model: Some(model),
        stop_reason: None,
        stop_sequence: None,
        usage: Some(usage),
    };
    write::<_, ()>(Event { message: Some(message), ..Event::new("message_start") }, out);
}

/// The events that end a message. `stop_sequence` is a text or null.
pub(super) fn message_end(stop_reason: &str, stop_sequence: &RawValue, usage: Usage, out: &mut BytesMut) {
    let stop_reason = text(stop_reason);
    let delta = MessageDelta { stop_reason: Some(&*stop_reason), stop_sequence: Some(stop_sequence) };
    write(Event { delta: Some(delta), usage: Some(usage), ..Event::new("message_delta") }, out);
    write::<(), ()>(Event::new("message_stop"), out);
}

/// The event that ends a stream with an error.
pub(super) fn error(error: &ErrorBody<'_>, out: &mut BytesMut) {
    write_event(out, "error", error);
}

fn write<P: Serialize, U: Serialize>(event: Event<'_, P, U>, out: &mut BytesMut) {
    write_event(out, event.kind, &event);
}

fn is_empty(text: &RawValue) -> bool {
    text.get() == "\"\""
}
