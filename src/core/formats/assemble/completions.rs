//! OpenAI's completions of a text: assembles `text_completion` events to one.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AssembleError;
use super::completion::{AssembledChoice, CompletionAssembly};
use super::parts::{Budget, JsonList, JsonText, Kept, member};

/// A `text_completion` that is being assembled.
pub(super) type TextAssembly = CompletionAssembly<Choice>;

#[derive(Default)]
pub(super) struct Choice {
    text: JsonText,
    logprobs: Logprobs,
    finish_reason: Kept,
}

/// Parallel lists with one element for each token: the four of OpenAI, or the one of chat completions, which llama.cpp uses
/// here too.
#[derive(Default)]
struct Logprobs {
    tokens: JsonList,
    token_logprobs: JsonList,
    top_logprobs: JsonList,
    text_offset: JsonList,
    content: JsonList,
}

impl AssembledChoice for Choice {
    const OBJECT: &'static str = "text_completion";
    type Chunk<'a> = ChunkChoice<'a>;
    type Whole = CompletionChoice;

    fn index(chunk: &ChunkChoice<'_>) -> u64 {
        chunk.index
    }

    fn take(&mut self, choice: &ChunkChoice<'_>, budget: &mut Budget) -> Result<(), AssembleError> {
        self.text.push(choice.text, budget)?;
        self.finish_reason.last(choice.finish_reason, budget)?;
        let Some(more) = member::<ChunkLogprobs<'_>>(choice.logprobs)? else { return Ok(()) };
        self.logprobs.tokens.extend(more.tokens, budget)?;
        self.logprobs.token_logprobs.extend(more.token_logprobs, budget)?;
        self.logprobs.top_logprobs.extend(more.top_logprobs, budget)?;
        self.logprobs.text_offset.extend(more.text_offset, budget)?;
        self.logprobs.content.extend(more.content, budget)
    }

    fn finish(self, index: usize) -> Result<CompletionChoice, AssembleError> {
        let (text, finish_reason) = (self.text.into_json()?, self.finish_reason.into_inner());
        Ok(CompletionChoice { text, index, logprobs: self.logprobs.finish()?, finish_reason })
    }
}

impl Logprobs {
    fn finish(self) -> Result<Option<CompletionLogprobs>, AssembleError> {
        let logprobs = CompletionLogprobs {
            tokens: self.tokens.into_json()?,
            token_logprobs: self.token_logprobs.into_json()?,
            top_logprobs: self.top_logprobs.into_json()?,
            text_offset: self.text_offset.into_json()?,
            content: self.content.into_json()?,
        };
        Ok((logprobs.tokens.is_some() || logprobs.content.is_some()).then_some(logprobs))
    }
}

#[derive(Deserialize)]
pub(super) struct ChunkChoice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChunkLogprobs<'a> {
    #[serde(borrow)]
    tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    token_logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    top_logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    text_offset: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub(super) struct CompletionChoice {
    text: Box<RawValue>,
    index: usize,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct CompletionLogprobs {
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_logprobs: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_offset: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Box<RawValue>>,
}
