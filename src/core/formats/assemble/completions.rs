//! OpenAI's completions of a text: assembles `text_completion` events to one.

use serde_json::value::RawValue;

use super::AssembleError;
use super::completion::{AssembledChoice, CompletionAssembly, LogprobsAssembly};
use super::parts::{Budget, JsonText, Kept};
use crate::core::formats::openai::{Logprobs, TextChoice};

/// A `text_completion` that is being assembled.
pub(super) type TextAssembly = CompletionAssembly<Choice>;

#[derive(Default)]
pub(super) struct Choice {
    text: JsonText,
    logprobs: LogprobsAssembly,
    finish_reason: Kept,
}

impl AssembledChoice for Choice {
    const OBJECT: &'static str = "text_completion";
    type Chunk<'a> = TextChoice<&'a RawValue>;
    type Whole = TextChoice<Box<RawValue>, Logprobs<Box<RawValue>>>;

    fn index(chunk: &Self::Chunk<'_>) -> Option<u64> {
        chunk.index
    }

    fn take(&mut self, choice: Self::Chunk<'_>, budget: &mut Budget) -> Result<(), AssembleError> {
        self.text.push(choice.text, budget)?;
        self.finish_reason.last(choice.finish_reason, budget)?;
        self.logprobs.take(choice.logprobs, budget)
    }

    fn finish(self, index: u64) -> Result<Self::Whole, AssembleError> {
        Ok(TextChoice {
            text: Some(self.text.into_json()?),
            index: Some(index),
            logprobs: self.logprobs.finish()?,
            finish_reason: self.finish_reason.into_inner(),
        })
    }
}
