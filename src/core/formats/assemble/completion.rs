//! What OpenAI's chat completions and its completions of a text have in common: events with choices that become one object.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AssembleError;
use super::parts::{Budget, Few, Kept, MAX_CHOICES, object, part};

/// A choice that is being assembled.
pub(super) trait AssembledChoice: Default {
    /// The member `object` of the assembled completion.
    const OBJECT: &'static str;
    /// The choice in one event.
    type Chunk<'a>: Deserialize<'a>;
    /// The assembled choice.
    type Whole: Serialize;

    /// Which choice an event is of.
    fn index(chunk: &Self::Chunk<'_>) -> u64;

    /// Takes the choice in the next event.
    fn take(&mut self, chunk: &Self::Chunk<'_>, budget: &mut Budget) -> Result<(), AssembleError>;

    /// The assembled choice.
    fn finish(self, index: usize) -> Result<Self::Whole, AssembleError>;
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
        let chunk: Chunk<'_> = object(data)?;
        let budget = &mut self.budget;
        self.has_chunks = true;
        self.id.first(chunk.id, budget)?;
        self.created.first(chunk.created, budget)?;
        self.model.first(chunk.model, budget)?;
        self.system_fingerprint.first(chunk.system_fingerprint, budget)?;
        self.usage.last(chunk.usage, budget)?;
        self.timings.last(chunk.timings, budget)?;
        for choice in chunk.choices.map_or(Ok(Vec::new()), Few::into_vec)? {
            let choice: C::Chunk<'_> = object(choice.get().as_bytes())?;
            part(&mut self.choices, C::index(&choice), MAX_CHOICES, budget)?.take(&choice, budget)?;
        }
        Ok(())
    }

    /// The stream has ended successfully: the completion.
    pub(super) fn finish(self) -> Result<Vec<u8>, AssembleError> {
        if !self.has_chunks {
            return Err(AssembleError::Empty);
        }
        let completion = Completion {
            id: self.id.into_inner(),
            object: C::OBJECT,
            created: self.created.into_inner(),
            model: self.model.into_inner(),
            system_fingerprint: self.system_fingerprint.into_inner(),
            choices: self.choices.into_iter().map(|(index, choice)| choice.finish(index)).collect::<Result<_, _>>()?,
            usage: self.usage.into_inner(),
            timings: self.timings.into_inner(),
        };
        serde_json::to_vec(&completion).map_err(|_| AssembleError::Malformed)
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    system_fingerprint: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Few<&'a RawValue, MAX_CHOICES>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    timings: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Completion<C> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<RawValue>>,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<Box<RawValue>>,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Box<RawValue>>,
}
