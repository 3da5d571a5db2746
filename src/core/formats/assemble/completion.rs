//! What OpenAI's chat completions and its completions of a text have in common: events with choices that become one object.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AssembleError;
use super::parts::{Budget, JsonList, Kept, elements, member, object, part};
use crate::core::formats::openai::{Completion, Logprobs, MAX_CHOICES};
use crate::core::json::Few;

/// A choice that is being assembled.
pub(super) trait AssembledChoice: Default {
    /// The member `object` of the assembled completion.
    const OBJECT: &'static str;
    /// The choice in one event.
    type Chunk<'a>: Deserialize<'a>;
    /// The assembled choice.
    type Whole: Serialize;

    /// Which choice an event is of, if it tells.
    fn index(chunk: &Self::Chunk<'_>) -> Option<u64>;

    /// Takes the choice in the next event.
    fn take(&mut self, chunk: Self::Chunk<'_>, budget: &mut Budget) -> Result<(), AssembleError>;

    /// The assembled choice.
    fn finish(self, index: u64) -> Result<Self::Whole, AssembleError>;
}

/// A completion that is being assembled.
pub(super) struct CompletionAssembly<C> {
    budget: Budget,
    has_chunks: bool,
    id: Kept,
    created: Kept,
    model: Kept,
    system_fingerprint: Kept,
    choices: BTreeMap<usize, C>,
    usage: Kept,
    timings: Kept,
}

impl<C: AssembledChoice> CompletionAssembly<C> {
    /// An assembly that keeps at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            budget: Budget::new(limit),
            has_chunks: false,
            id: Kept::default(),
            created: Kept::default(),
            model: Kept::default(),
            system_fingerprint: Kept::default(),
            choices: BTreeMap::new(),
            usage: Kept::default(),
            timings: Kept::default(),
        }
    }

    /// Handles the data of the next event, which is neither an error nor `[DONE]`. Not to be used after an error.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<(), AssembleError> {
        let chunk: Completion<'_, &RawValue, C::Chunk<'_>> = object(data)?;
        let budget = &mut self.budget;
        self.has_chunks = true;
        self.id.first(chunk.id, budget)?;
        self.created.first(chunk.created, budget)?;
        self.model.first(chunk.model, budget)?;
        self.system_fingerprint.first(chunk.system_fingerprint, budget)?;
        self.usage.last(chunk.usage, budget)?;
        self.timings.last(chunk.timings, budget)?;
        for choice in elements(chunk.choices)? {
            let index = C::index(&choice).unwrap_or(0);
            part(&mut self.choices, index, MAX_CHOICES, budget)?.take(choice, budget)?;
        }
        Ok(())
    }

    /// The stream has ended successfully: the completion.
    pub(super) fn finish(self) -> Result<Vec<u8>, AssembleError> {
        if !self.has_chunks {
            return Err(AssembleError::Empty);
        }
        let choices = self.choices.into_iter().map(|(index, choice)| choice.finish(index as u64));
        let completion = Completion {
            id: self.id.into_inner(),
            object: C::OBJECT,
            created: self.created.into_inner(),
            model: self.model.into_inner(),
            system_fingerprint: self.system_fingerprint.into_inner(),
            choices: Some(Few::of(choices.collect::<Result<_, _>>()?)),
            usage: self.usage.into_inner(),
            timings: self.timings.into_inner(),
        };
        serde_json::to_vec(&completion).map_err(|_| AssembleError::Malformed)
    }
}

/// The logprobs of a choice that is being assembled.
#[derive(Default)]
pub(super) struct LogprobsAssembly {
    tokens: JsonList,
    token_logprobs: JsonList,
    top_logprobs: JsonList,
    text_offset: JsonList,
    content: JsonList,
    refusal: JsonList,
}

impl LogprobsAssembly {
    /// Takes the logprobs in the next event.
    pub(super) fn take(&mut self, more: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        let Some(more) = member::<Logprobs<&RawValue>>(more)? else { return Ok(()) };
        self.tokens.extend(more.tokens, budget)?;
        self.token_logprobs.extend(more.token_logprobs, budget)?;
        self.top_logprobs.extend(more.top_logprobs, budget)?;
        self.text_offset.extend(more.text_offset, budget)?;
        self.content.extend(more.content, budget)?;
        self.refusal.extend(more.refusal, budget)
    }

    /// The logprobs, `None` without an element.
    pub(super) fn finish(self) -> Result<Option<Logprobs<Box<RawValue>>>, AssembleError> {
        let logprobs = Logprobs {
            tokens: self.tokens.into_json()?,
            token_logprobs: self.token_logprobs.into_json()?,
            top_logprobs: self.top_logprobs.into_json()?,
            text_offset: self.text_offset.into_json()?,
            content: self.content.into_json()?,
            refusal: self.refusal.into_json()?,
        };
        let has_any = logprobs.tokens.is_some() || logprobs.content.is_some() || logprobs.refusal.is_some();
        Ok(has_any.then_some(logprobs))
    }
}
