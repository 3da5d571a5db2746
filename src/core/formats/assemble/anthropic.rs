//! Anthropic's messages: assembles the events of a stream to one `message`.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::AssembleError;
use super::parts::{Budget, JsonList, JsonText, Kept, member, object};
use crate::core::formats::anthropic::{Block, BlockDelta, Event, MAX_BLOCKS, Message, MessageDelta};
use crate::core::json::{empty_object, raw, text};

/// A `message` that is being assembled.
pub(crate) struct MessageAssembly {
    budget: Budget,
    has_started: bool,
    id: Kept,
    role: Kept,
    model: Kept,
    blocks: BTreeMap<usize, BlockAssembly>,
    stop_reason: Kept,
    stop_sequence: Kept,
    usage: BTreeMap<String, Kept>,
}

/// A content block, by the kind of its deltas.
enum BlockAssembly {
    Text {
        text: JsonText,
        citations: JsonList,
    },
    Tool {
        kind: &'static str,
        id: Kept,
        name: Kept,
        input: Kept,
        partial_input: JsonText,
    },
    Thinking {
        thinking: JsonText,
        signature: JsonText,
    },
    /// One that is sent whole, such as redacted thinking or the result of a server's own tool.
    Whole(Kept),
}

impl MessageAssembly {
    /// An assembly that keeps at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            budget: Budget::new(limit),
            has_started: false,
            id: Kept::default(),
            role: Kept::default(),
            model: Kept::default(),
            blocks: BTreeMap::new(),
            stop_reason: Kept::default(),
            stop_sequence: Kept::default(),
            usage: BTreeMap::new(),
        }
    }

    /// Handles the data of the next event, which is neither an error nor the end mark. Not to be used after an error.
    pub(crate) fn feed(&mut self, data: &[u8]) -> Result<(), AssembleError> {
        let event: Event<'_, &RawValue, &RawValue> = object(data)?;
        match event.kind {
            "message_start" => self.start(object(required(event.message)?.get().as_bytes())?),
            "content_block_start" => self.start_block(event.index, required(event.content_block)?),
            "content_block_delta" => {
                let block = event.index.and_then(|index| usize::try_from(index).ok());
                let block = required(block.and_then(|index| self.blocks.get_mut(&index)))?;
                block.take(object(required(event.delta)?.get().as_bytes())?, &mut self.budget)
            }
            "message_delta" => {
                if let Some(delta) = member::<MessageDelta<&RawValue>>(event.delta)? {
                    self.stop_reason.last(delta.stop_reason, &mut self.budget)?;
                    self.stop_sequence.last(delta.stop_sequence, &mut self.budget)?;
                }
                self.merge_usage(event.usage)
            }
            _ => Ok(()),
        }
    }

    /// The stream has ended successfully: the `message`.
    pub(crate) fn finish(self) -> Result<Vec<u8>, AssembleError> {
        if !self.has_started {
            return Err(AssembleError::Empty);
        }
        let blocks = self.blocks.into_values().map(BlockAssembly::finish).collect::<Result<Vec<_>, _>>()?;
        let usage = self.usage.into_iter().map(|(field, figure)| (field, figure.into_inner()));
        let message = Message {
            id: self.id.into_inner(),
            kind: "message",
            role: Some(self.role.into_inner().unwrap_or_else(|| text("assistant"))),
            content: Some(blocks),
            model: self.model.into_inner(),
            stop_reason: self.stop_reason.into_inner(),
            stop_sequence: self.stop_sequence.into_inner(),
            usage: Some(usage.collect::<BTreeMap<_, _>>()),
        };
        serde_json::to_vec(&message).map_err(|_| AssembleError::Malformed)
    }

    fn start(&mut self, message: Message<'_, &RawValue, IgnoredAny, &RawValue>) -> Result<(), AssembleError> {
        self.has_started = true;
        self.id.first(message.id, &mut self.budget)?;
        self.role.first(message.role, &mut self.budget)?;
        self.model.first(message.model, &mut self.budget)?;
        self.merge_usage(message.usage)
    }

    /// The last reported value of each figure counts: servers differ in which event contains it.
    fn merge_usage(&mut self, usage: Option<&RawValue>) -> Result<(), AssembleError> {
        let figures = member::<BTreeMap<String, Option<&RawValue>>>(usage)?.unwrap_or_default();
        for (field, figure) in figures {
            if !self.usage.contains_key(&field) {
                self.budget.spend_part()?;
                self.budget.spend(field.len())?;
            }
            self.usage.entry(field).or_default().last(figure, &mut self.budget)?;
        }
        Ok(())
    }

    fn start_block(&mut self, index: Option<u64>, block: &RawValue) -> Result<(), AssembleError> {
        let index = index.ok_or(AssembleError::Malformed)?;
        let index = usize::try_from(index).ok().filter(|&index| index < MAX_BLOCKS).ok_or(AssembleError::TooMany)?;
        self.budget.spend_part()?;
        let block = BlockAssembly::start(block, &mut self.budget)?;
        match self.blocks.insert(index, block) {
            None => Ok(()),
            Some(_) => Err(AssembleError::Malformed),
        }
    }
}

impl BlockAssembly {
    fn start(block: &RawValue, budget: &mut Budget) -> Result<Self, AssembleError> {
        let start: Block<'_, &RawValue> = object(block.get().as_bytes())?;
        match start.kind {
            "text" => {
                let (mut text, mut citations) = (JsonText::default(), JsonList::default());
                text.push(start.text, budget)?;
                citations.extend(start.citations, budget)?;
                Ok(Self::Text { text, citations })
            }
            "thinking" => {
                let (mut thinking, mut signature) = (JsonText::default(), JsonText::default());
                thinking.push(start.thinking, budget)?;
                signature.push(start.signature, budget)?;
                Ok(Self::Thinking { thinking, signature })
            }
            "tool_use" => Self::start_tool("tool_use", start, budget),
            "server_tool_use" => Self::start_tool("server_tool_use", start, budget),
            _ => {
                let mut whole = Kept::default();
                whole.first(Some(block), budget)?;
                Ok(Self::Whole(whole))
            }
        }
    }

    fn start_tool(kind: &'static str, start: Block<'_, &RawValue>, budget: &mut Budget) -> Result<Self, AssembleError> {
        let [id, name, input] = [start.id, start.name, start.input].map(|value| {
            let mut kept = Kept::default();
            kept.first(value, budget).map(|()| kept)
        });
        Ok(Self::Tool { kind, id: id?, name: name?, input: input?, partial_input: JsonText::default() })
    }

    fn take(&mut self, delta: BlockDelta<'_, &RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        match (self, delta.kind) {
            (Self::Text { text, .. }, "text_delta") => text.push(delta.text, budget),
            (Self::Text { citations, .. }, "citations_delta") => citations.push(delta.citation, budget),
            (Self::Tool { partial_input, .. }, "input_json_delta") => partial_input.push(delta.partial_json, budget),
            (Self::Thinking { thinking, .. }, "thinking_delta") => thinking.push(delta.thinking, budget),
            (Self::Thinking { signature, .. }, "signature_delta") => signature.push(delta.signature, budget),
            _ => Err(AssembleError::Malformed),
        }
    }

    /// The whole block. The input of a tool is generated text: it may be cut off by a token limit or a stop sequence, or
    /// may not be JSON. An input that is not a JSON object becomes an empty object, because the API would refuse any other
    /// type when the client sends it back.
    fn finish(self) -> Result<Box<RawValue>, AssembleError> {
        let block = match self {
            Self::Whole(block) => return required(block.into_inner()),
            Self::Text { text, citations } => {
                Block { text: Some(text.into_json()?), citations: citations.into_json()?, ..Block::new("text") }
            }
            Self::Thinking { thinking, signature } => {
                let (thinking, signature) = (Some(thinking.into_json()?), Some(signature.into_json()?));
                Block { thinking, signature, ..Block::new("thinking") }
            }
            Self::Tool { kind, id, name, input, partial_input } => {
                let input = if partial_input.is_empty() { input.into_inner() } else { partial_input.into_object() };
                let (id, name) = (id.into_inner(), name.into_inner());
                let input = Some(input.unwrap_or_else(empty_object));
                Block { id, name, input, ..Block::new(kind) }
            }
        };
        required(raw(&block))
    }
}

fn required<T>(value: Option<T>) -> Result<T, AssembleError> {
    value.ok_or(AssembleError::Malformed)
}
