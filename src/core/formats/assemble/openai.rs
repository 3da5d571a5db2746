//! OpenAI's chat completions: assembles `chat.completion.chunk` events to one `chat.completion`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::AssembleError;
use super::completion::{AssembledChoice, CompletionAssembly, LogprobsAssembly};
use super::parts::{Budget, JsonText, Kept, elements};
use crate::core::formats::openai::{
    CallPlace, ChatChoice, ChatMessage, Function, KnownCall, Logprobs, MAX_TOOL_CALLS, ToolCall,
};
use crate::core::json::{Few, Object, text};

/// A `chat.completion` that is being assembled.
pub(super) type ChatAssembly = CompletionAssembly<Choice>;

#[derive(Default)]
pub(super) struct Choice {
    role: Kept,
    content: JsonText,
    reasoning_content: JsonText,
    reasoning: JsonText,
    refusal: JsonText,
    tool_calls: ToolCalls,
    finish_reason: Kept,
    logprobs: LogprobsAssembly,
}

/// The calls by their place.
#[derive(Default)]
struct ToolCalls {
    calls: BTreeMap<CallPlace, CallAssembly>,
}

#[derive(Default)]
struct CallAssembly {
    id: Kept,
    kind: Kept,
    name: Kept,
    arguments: JsonText,
}

impl AssembledChoice for Choice {
    const OBJECT: &'static str = "chat.completion";
    type Chunk<'a> = ChatChoice<&'a RawValue>;
    type Whole = ChatChoice<Box<RawValue>, Logprobs<Box<RawValue>>>;

    fn index(chunk: &Self::Chunk<'_>) -> Option<u64> {
        chunk.index
    }

    fn take(&mut self, choice: Self::Chunk<'_>, budget: &mut Budget) -> Result<(), AssembleError> {
        self.finish_reason.last(choice.finish_reason, budget)?;
        self.logprobs.take(choice.logprobs, budget)?;
        let Some(Object(delta)) = choice.delta else { return Ok(()) };
        self.role.first(delta.role, budget)?;
        self.content.push(delta.content, budget)?;
        self.reasoning_content.push(delta.reasoning_content, budget)?;
        self.reasoning.push(delta.reasoning, budget)?;
        self.refusal.push(delta.refusal, budget)?;
        elements(delta.tool_calls)?.iter().try_for_each(|call| self.tool_calls.take(call, budget))
    }

    fn finish(self, index: u64) -> Result<Self::Whole, AssembleError> {
        let calls = self.tool_calls.calls.into_values().map(CallAssembly::finish).collect::<Result<Vec<_>, _>>()?;
        // A message that only calls tools, or refuses, has the content null.
        let says_nothing = self.content.is_empty() && !(calls.is_empty() && self.refusal.is_empty());
        let mut logprobs = self.logprobs.finish()?;
        if let Some(logprobs) = logprobs.as_mut().filter(|logprobs| logprobs.refusal.is_some()) {
            logprobs.content.get_or_insert_with(|| RawValue::NULL.to_owned());
        }
        let message = ChatMessage {
            role: Some(self.role.into_inner().unwrap_or_else(|| text("assistant"))),
            content: Some(if says_nothing { RawValue::NULL.to_owned() } else { self.content.into_json()? }),
            reasoning_content: self.reasoning_content.into_json_unless_empty()?,
            reasoning: self.reasoning.into_json_unless_empty()?,
            refusal: self.refusal.into_json_unless_empty()?,
            tool_calls: if calls.is_empty() { None } else { Some(Few::of(calls)) },
        };
        Ok(ChatChoice {
            index: Some(index),
            message: Some(Object(message)),
            delta: None,
            logprobs,
            finish_reason: self.finish_reason.into_inner(),
            stop_reason: None,
            matched_stop: None,
        })
    }
}

impl ToolCalls {
    fn take(&mut self, delta: &ToolCall<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        let place = delta.place(&self.calls);
        if place.0 >= MAX_TOOL_CALLS as u64 {
            return Err(AssembleError::TooMany);
        }
        if !self.calls.contains_key(&place) {
            if self.calls.len() >= MAX_TOOL_CALLS {
                return Err(AssembleError::TooMany);
            }
            budget.spend_part()?;
        }
        self.calls.entry(place).or_default().take(delta, budget)
    }
}

impl KnownCall for CallAssembly {
    fn id(&self) -> Option<&RawValue> {
        self.id.get()
    }

    fn has_name(&self) -> bool {
        self.name.get().is_some()
    }
}

impl CallAssembly {
    fn take(&mut self, delta: &ToolCall<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        self.id.first(delta.own_id(), budget)?;
        self.kind.first(delta.kind, budget)?;
        if let Some(Object(function)) = &delta.function {
            self.name.first(function.name, budget)?;
            self.arguments.push_text_of(function.arguments, budget)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<ToolCall<Box<RawValue>>, AssembleError> {
        let name = self.name.into_inner().unwrap_or_else(|| RawValue::NULL.to_owned());
        let function = Function { name: Some(name), arguments: Some(self.arguments.into_json()?) };
        Ok(ToolCall {
            index: None,
            id: self.id.into_inner(),
            kind: Some(self.kind.into_inner().unwrap_or_else(|| text("function"))),
            function: Some(Object(function)),
        })
    }
}
