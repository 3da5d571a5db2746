//! OpenAI's completions of a text: assembles `text_completion` events to one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AssembleError;
use super::parts::{Budget, Few, JsonList, JsonText, Kept, MAX_CHOICES, member, object, part};

/// A `text_completion` that is being assembled.
pub struct TextAssembly {
    budget: Budget,
    has_chunks: bool,
    id: Kept,
    created: Kept,
    model: Kept,
    system_fingerprint: Kept,
    choices: BTreeMap<usize, Choice>,
    usage: Kept,
    timings: Kept,
}

#[derive(Default)]
struct Choice {
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

impl TextAssembly {
    /// An assembly that keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
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
    pub fn feed(&mut self, data: &[u8]) -> Result<(), AssembleError> {
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
            let choice: ChunkChoice<'_> = object(choice.get().as_bytes())?;
            part(&mut self.choices, choice.index, MAX_CHOICES, budget)?.take(&choice, budget)?;
        }
        Ok(())
    }

    /// The stream has ended successfully: the `text_completion`.
    pub fn finish(self) -> Result<Vec<u8>, AssembleError> {
        if !self.has_chunks {
            return Err(AssembleError::Empty);
        }
        let completion = Completion {
            id: self.id.into_inner(),
            object: "text_completion",
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

impl Choice {
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

#[derive(Deserialize)]
struct ChunkChoice<'a> {
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
struct Completion {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<RawValue>>,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<Box<RawValue>>,
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct CompletionChoice {
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
