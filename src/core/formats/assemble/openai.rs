//! OpenAI's chat completions: assembles `chat.completion.chunk` events to one `chat.completion`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AssembleError;
use super::completion::{AssembledChoice, CompletionAssembly};
use super::parts::{Budget, Few, JsonList, JsonText, Kept, MAX_TOOL_CALLS, member, object, raw};

/// A `chat.completion` that is being assembled.
pub(super) type ChatAssembly = CompletionAssembly<Choice>;

#[derive(Default)]
pub(super) struct Choice {
    role: Kept,
    content: JsonText,
    /// The member for thinking in llama.cpp, SGLang and older vLLM.
    reasoning_content: JsonText,
    /// The member for thinking in newer vLLM, Ollama and OpenRouter.
    reasoning: JsonText,
    refusal: JsonText,
    tool_calls: ToolCalls,
    finish_reason: Kept,
    logprobs: JsonList,
    refusal_logprobs: JsonList,
}

/// The calls by their index. Some servers use the same index for all calls: then the calls are distinguished by their ids
/// and kept in the order in which they began.
#[derive(Default)]
struct ToolCalls {
    calls: BTreeMap<(usize, usize), ToolCall>,
}

#[derive(Default)]
struct ToolCall {
    id: Kept,
    kind: Kept,
    name: Kept,
    arguments: JsonText,
}

impl AssembledChoice for Choice {
    const OBJECT: &'static str = "chat.completion";
    type Chunk<'a> = ChunkChoice<'a>;
    type Whole = CompletionChoice;

    fn index(chunk: &ChunkChoice<'_>) -> u64 {
        chunk.index
    }

    fn take(&mut self, choice: &ChunkChoice<'_>, budget: &mut Budget) -> Result<(), AssembleError> {
        self.finish_reason.last(choice.finish_reason, budget)?;
        if let Some(logprobs) = member::<Logprobs<'_>>(choice.logprobs)? {
            self.logprobs.extend(logprobs.content, budget)?;
            self.refusal_logprobs.extend(logprobs.refusal, budget)?;
        }
        let Some(delta) = member::<Delta<'_>>(choice.delta)? else { return Ok(()) };
        self.role.first(delta.role, budget)?;
        self.content.push(delta.content, budget)?;
        self.reasoning_content.push(delta.reasoning_content, budget)?;
        self.reasoning.push(delta.reasoning, budget)?;
        self.refusal.push(delta.refusal, budget)?;
        for call in delta.tool_calls.map_or(Ok(Vec::new()), Few::into_vec)? {
            let call: ToolDelta<'_> = object(call.get().as_bytes())?;
            self.tool_calls.take(&call, budget)?;
        }
        Ok(())
    }

    fn finish(self, index: usize) -> Result<CompletionChoice, AssembleError> {
        let tool_calls = self.tool_calls.calls.into_values().map(ToolCall::finish).collect::<Result<Vec<_>, _>>()?;
        let says_nothing = self.content.is_empty() && !(tool_calls.is_empty() && self.refusal.is_empty());
        let (content, refusal) = (self.logprobs.into_json()?, self.refusal_logprobs.into_json()?);
        let has_logprobs = content.is_some() || refusal.is_some();
        Ok(CompletionChoice {
            index,
            message: Message {
                role: self.role.into_inner().map_or_else(|| raw("\"assistant\""), Ok)?,
                content: if says_nothing { None } else { Some(self.content.into_json()?) },
                reasoning_content: self.reasoning_content.into_json_unless_empty()?,
                reasoning: self.reasoning.into_json_unless_empty()?,
                refusal: self.refusal.into_json_unless_empty()?,
                tool_calls,
            },
            logprobs: has_logprobs.then_some(CompletionLogprobs { content, refusal }),
            finish_reason: self.finish_reason.into_inner(),
        })
    }
}

impl ToolCalls {
    fn take(&mut self, delta: &ToolDelta<'_>, budget: &mut Budget) -> Result<(), AssembleError> {
        // Servers that send whole calls leave the index out: an id begins a call, a delta without an id continues it.
        let last = self.calls.last_key_value().map(|(&(index, _), _)| index as u64);
        let next = last.map_or(0, |last| if delta.id.is_some() { last + 1 } else { last });
        let index = usize::try_from(delta.index.unwrap_or(next)).ok().filter(|&index| index < MAX_TOOL_CALLS);
        let index = index.ok_or(AssembleError::TooMany)?;
        let id = delta.id.filter(|id| id.get() != "\"\"");
        let latest = self.calls.range((index, 0)..=(index, usize::MAX)).next_back();
        let place = match latest {
            Some((&(_, nth), call)) if id.is_some_and(|id| call.id.differs_from(id)) => (index, nth + 1),
            Some((&place, _)) => place,
            None => (index, 0),
        };
        if !self.calls.contains_key(&place) {
            if self.calls.len() >= MAX_TOOL_CALLS {
                return Err(AssembleError::TooMany);
            }
            budget.spend_part()?;
        }
        self.calls.entry(place).or_default().take(delta, id, budget)
    }
}

impl ToolCall {
    /// `id`: the id in `delta`, if it is not empty.
    fn take(&mut self, delta: &ToolDelta<'_>, id: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        self.id.first(id, budget)?;
        self.kind.first(delta.kind, budget)?;
        if let Some(function) = member::<FunctionDelta<'_>>(delta.function)? {
            self.name.first(function.name, budget)?;
            self.arguments.push_text_of(function.arguments, budget)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<CompletionToolCall, AssembleError> {
        Ok(CompletionToolCall {
            id: self.id.into_inner(),
            kind: self.kind.into_inner().map_or_else(|| raw("\"function\""), Ok)?,
            function: Function { name: self.name.into_inner(), arguments: self.arguments.into_json()? },
        })
    }
}

#[derive(Deserialize)]
pub(super) struct ChunkChoice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Logprobs<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
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
struct ToolDelta<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionDelta<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub(super) struct CompletionChoice {
    index: usize,
    message: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Message {
    role: Box<RawValue>,
    content: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CompletionToolCall>,
}

#[derive(Serialize)]
struct CompletionToolCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<RawValue>>,
    #[serde(rename = "type")]
    kind: Box<RawValue>,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: Option<Box<RawValue>>,
    arguments: Box<RawValue>,
}

#[derive(Serialize)]
struct CompletionLogprobs {
    content: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Box<RawValue>>,
}
