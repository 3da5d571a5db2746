//! Anthropic's messages: assembles the events of a stream to one `message`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AssembleError;
use super::parts::{Budget, JsonList, JsonText, Kept, MAX_BLOCKS, member, object, raw};
use crate::core::json::is_text;

/// A `message` that is being assembled.
pub struct MessageAssembly {
    budget: Budget,
    has_started: bool,
    id: Kept,
    role: Kept,
    model: Kept,
    blocks: BTreeMap<usize, Block>,
    stop_reason: Kept,
    stop_sequence: Kept,
    usage: BTreeMap<String, Kept>,
}

/// A content block, by the kind of its deltas.
enum Block {
    Text {
        text: JsonText,
        citations: JsonList,
    },
    Tool {
        kind: Kept,
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
    pub fn new(limit: usize) -> Self {
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
    pub fn feed(&mut self, data: &[u8]) -> Result<(), AssembleError> {
        let event: StreamEvent<'_> = object(data)?;
        let is = |kind| is_text(event.kind, kind);
        if is("message_start") {
            self.start(object(required(event.message)?.get().as_bytes())?)
        } else if is("content_block_start") {
            self.start_block(event.index, required(event.content_block)?)
        } else if is("content_block_delta") {
            let block = event.index.and_then(|index| usize::try_from(index).ok());
            let block = block.and_then(|index| self.blocks.get_mut(&index)).ok_or(AssembleError::Malformed)?;
            block.take(object(required(event.delta)?.get().as_bytes())?, &mut self.budget)
        } else if is("message_delta") {
            if let Some(delta) = member::<MessageDelta<'_>>(event.delta)? {
                self.stop_reason.last(delta.stop_reason, &mut self.budget)?;
                self.stop_sequence.last(delta.stop_sequence, &mut self.budget)?;
            }
            self.merge_usage(event.usage)
        } else {
            Ok(())
        }
    }

    /// The stream has ended successfully: the `message`.
    pub fn finish(self) -> Result<Vec<u8>, AssembleError> {
        if !self.has_started {
            return Err(AssembleError::Empty);
        }
        let blocks = self.blocks.into_values().map(Block::finish);
        let message = Message {
            id: self.id.into_inner(),
            kind: "message",
            role: self.role.into_inner().map_or_else(|| raw("\"assistant\""), Ok)?,
            content: blocks.collect::<Result<_, _>>()?,
            model: self.model.into_inner(),
            stop_reason: self.stop_reason.into_inner(),
            stop_sequence: self.stop_sequence.into_inner(),
            usage: self.usage.into_iter().map(|(field, figure)| (field, figure.into_inner())).collect(),
        };
        serde_json::to_vec(&message).map_err(|_| AssembleError::Malformed)
    }

    fn start(&mut self, message: StartedMessage<'_>) -> Result<(), AssembleError> {
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
        let block = Block::start(block, &mut self.budget)?;
        match self.blocks.insert(index, block) {
            None => Ok(()),
            Some(_) => Err(AssembleError::Malformed),
        }
    }
}

impl Block {
    fn start(block: &RawValue, budget: &mut Budget) -> Result<Self, AssembleError> {
        let start: BlockStart<'_> = object(block.get().as_bytes())?;
        let is = |kind| is_text(start.kind, kind);
        if is("text") {
            let (mut text, mut citations) = (JsonText::default(), JsonList::default());
            text.push(start.text, budget)?;
            citations.extend(start.citations, budget)?;
            Ok(Self::Text { text, citations })
        } else if is("thinking") {
            let (mut thinking, mut signature) = (JsonText::default(), JsonText::default());
            thinking.push(start.thinking, budget)?;
            signature.push(start.signature, budget)?;
            Ok(Self::Thinking { thinking, signature })
        } else if is("tool_use") || is("server_tool_use") {
            let [kind, id, name, input] = [start.kind, start.id, start.name, start.input].map(|value| {
                let mut kept = Kept::default();
                kept.first(value, budget).map(|()| kept)
            });
            Ok(Self::Tool { kind: kind?, id: id?, name: name?, input: input?, partial_input: JsonText::default() })
        } else {
            let mut whole = Kept::default();
            whole.first(Some(block), budget)?;
            Ok(Self::Whole(whole))
        }
    }

    fn take(&mut self, delta: BlockDelta<'_>, budget: &mut Budget) -> Result<(), AssembleError> {
        let is = |kind| is_text(delta.kind, kind);
        match self {
            Self::Text { text, .. } if is("text_delta") => text.push(delta.text, budget),
            Self::Text { citations, .. } if is("citations_delta") => citations.push(delta.citation, budget),
            Self::Tool { partial_input, .. } if is("input_json_delta") => {
                partial_input.push(delta.partial_json, budget)
            }
            Self::Thinking { thinking, .. } if is("thinking_delta") => thinking.push(delta.thinking, budget),
            Self::Thinking { signature, .. } if is("signature_delta") => signature.push(delta.signature, budget),
            _ => Err(AssembleError::Malformed),
        }
    }

    /// The whole block. The input of a tool is generated text: it may be cut off by a token limit or a stop sequence, or
    /// may not be JSON. An input that is not a JSON object becomes an empty object, because the API would refuse any other
    /// type when the client sends it back.
    fn finish(self) -> Result<Box<RawValue>, AssembleError> {
        let block = match self {
            Self::Whole(block) => return block.into_inner().ok_or(AssembleError::Malformed),
            Self::Text { text, citations } => {
                to_raw(&TextBlock { kind: "text", text: text.into_json()?, citations: citations.into_json()? })
            }
            Self::Thinking { thinking, signature } => to_raw(&ThinkingBlock {
                kind: "thinking",
                thinking: thinking.into_json()?,
                signature: signature.into_json()?,
            }),
            Self::Tool { kind, id, name, input, partial_input } => {
                let input = match input.into_inner() {
                    Some(input) if partial_input.is_empty() => input,
                    _ if partial_input.is_empty() => raw("{}")?,
                    _ => partial_input.into_object().map_or_else(|| raw("{}"), Ok)?,
                };
                to_raw(&ToolBlock { kind: kind.into_inner(), id: id.into_inner(), name: name.into_inner(), input })
            }
        };
        block.map_err(|_| AssembleError::Malformed)
    }
}

fn to_raw(block: &impl Serialize) -> serde_json::Result<Box<RawValue>> {
    serde_json::value::to_raw_value(block)
}

fn required(value: Option<&RawValue>) -> Result<&RawValue, AssembleError> {
    value.ok_or(AssembleError::Malformed)
}

#[derive(Deserialize)]
struct StreamEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    index: Option<u64>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StartedMessage<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MessageDelta<'a> {
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_sequence: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BlockStart<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    citations: Option<&'a RawValue>,
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

#[derive(Deserialize)]
struct BlockDelta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<RawValue>>,
    #[serde(rename = "type")]
    kind: &'static str,
    role: Box<RawValue>,
    content: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Box<RawValue>>,
    stop_reason: Option<Box<RawValue>>,
    stop_sequence: Option<Box<RawValue>>,
    usage: BTreeMap<String, Option<Box<RawValue>>>,
}

#[derive(Serialize)]
struct TextBlock {
    #[serde(rename = "type")]
    kind: &'static str,
    text: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    citations: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct ThinkingBlock {
    #[serde(rename = "type")]
    kind: &'static str,
    thinking: Box<RawValue>,
    signature: Box<RawValue>,
}

#[derive(Serialize)]
struct ToolBlock {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Box<RawValue>>,
    input: Box<RawValue>,
}
