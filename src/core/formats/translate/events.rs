//! Converts a stream of chat completions to Anthropic's events.

use std::sync::Arc;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::calls::{Calls, text};
use super::error::{envelope, event_error};
use super::fault::StreamFault;
use super::frames::{self, Blocks, Usage, Voice};
use super::json::{each, spelling};
use super::request::Thinking;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::sse::{Event, SseSplitter};
use crate::core::formats::usage::{BackendFault, Ending, Tally};
use crate::core::json::{is_text, object, parse};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;

/// The longest event that is translated, in bytes: servers may send a whole answer in one event.
pub const LONGEST_EVENT: usize = 16 << 20;

/// Used if the backend's answer has no id.
const NO_ID: &str = "msg_unnamed";

/// Translates the body of one streamed response.
///
/// It replaces the [`crate::core::formats::usage::ResponseScan`] of a response that is not translated: it also counts the
/// tokens of the response, so its output must not be scanned again. The output depends only on the bytes of the body, not
/// on how they are cut into pieces.
pub struct MessageEvents {
    splitter: SseSplitter,
    tally: Tally,
    answer: Answer,
    fault: Option<StreamFault>,
    key: Option<Arc<KeyTrace>>,
}

impl MessageEvents {
    /// A translation of an answer of this model, whose name the client sees.
    pub fn new(model: &ModelId, thinking: Thinking) -> Self {
        Self {
            splitter: SseSplitter::new(LONGEST_EVENT),
            tally: Tally::new(Endpoint::ChatCompletions),
            answer: Answer::new(model, thinking),
            fault: None,
            key: None,
        }
    }

    /// The same, which removes the text of an error that contains this API key.
    pub fn without_key(self, key: Option<Arc<KeyTrace>>) -> Self {
        Self { key, ..self }
    }

    /// Handles the next piece of the body and appends the resulting events.
    pub fn feed(&mut self, bytes: &[u8], out: &mut BytesMut) {
        let Self { splitter, tally, answer, fault, key } = self;
        if fault.is_some() || tally.is_complete() {
            return;
        }
        splitter.feed(bytes, |event| {
            if fault.is_none() && !tally.is_complete() {
                *fault = take(event, tally, answer, out)
                    .inspect_err(|fault| fail(*fault, event.data, key.as_deref(), out))
                    .err();
            }
        });
        // If no event follows the gap yet.
        if splitter.oversized() > 0 && fault.is_none() && !tally.is_complete() {
            *fault = Some(StreamFault::TooLarge);
            fail(StreamFault::TooLarge, b"", None, out);
        }
    }

    /// Handles the body of a server that answered a request for a stream with one JSON value.
    pub fn take_whole(&mut self, body: &[u8], out: &mut BytesMut) {
        let Self { tally, answer, fault, key, .. } = self;
        tally.take_whole(body);
        let taken = if tally.fault().is_some() {
            Err(StreamFault::Reported)
        } else {
            answer.take(body, |choice| choice.message, tally, out).and_then(|()| answer.finish(tally, out))
        };
        *fault = taken.inspect_err(|fault| fail(*fault, body, key.as_deref(), out)).err();
    }

    /// Whether there was an error, which the last event reports.
    pub fn has_failed(&self) -> bool {
        self.fault.is_some()
    }

    /// Whether the last event was written: nothing relevant follows.
    pub fn is_over(&self) -> bool {
        self.tally.is_complete() || self.fault.is_some()
    }

    /// The body has ended. Appends the events for its last line, and returns how it ended: complete, with the tokens that
    /// the backend reported; failed, with an `error` event at the end; or truncated, without an `error` event and without
    /// `message_stop`. A malformed stream has failed, without a label. One that is too large is unread, and has an `error`
    /// event too.
    pub fn finish(mut self, out: &mut BytesMut) -> Ending {
        let Self { splitter, tally, answer, fault, key } = &mut self;
        if fault.is_none() && !tally.is_complete() {
            splitter.finish(|event| match take(event, tally, answer, out) {
                // A part of an event, cut off by the end.
                Err(StreamFault::Malformed) if !tally.is_complete() => {}
                taken => *fault = taken.inspect_err(|fault| fail(*fault, event.data, key.as_deref(), out)).err(),
            });
        }
        match (self.tally.ending(), self.fault) {
            (Ending::Failed(fault), _) => Ending::Failed(fault),
            (_, Some(StreamFault::TooLarge)) => Ending::Unread,
            (_, Some(StreamFault::Malformed | StreamFault::Reported)) => Ending::Failed(BackendFault { label: None }),
            (ending, None) => ending,
        }
    }
}

/// Handles an event and appends the resulting ones, except for an error.
fn take(event: Event<'_>, tally: &mut Tally, answer: &mut Answer, out: &mut BytesMut) -> Result<(), StreamFault> {
    if event.follows_gap {
        return Err(StreamFault::TooLarge);
    }
    tally.take(event);
    if tally.fault().is_some() {
        Err(StreamFault::Reported)
    } else if tally.is_complete() {
        answer.finish(tally, out)
    } else if event.data.trim_ascii().is_empty() {
        Ok(())
    } else {
        answer.take(event.data, |choice| choice.delta, tally, out)
    }
}

/// Appends the event that ends a stream with an error. `data` is the data of the error; its text is left out if it contains
/// the key.
fn fail(fault: StreamFault, data: &[u8], key: Option<&KeyTrace>, out: &mut BytesMut) {
    let error = match fault {
        StreamFault::Reported if key.is_some_and(|key| key.is_in(data)) => event_error(b""),
        StreamFault::Reported => event_error(data),
        StreamFault::Malformed | StreamFault::TooLarge => envelope("api_error", &fault.to_string()),
    };
    frames::error(&error, out);
}

/// The message that is being built, from the first choice of each chunk.
struct Answer {
    /// JSON.
    model: String,
    thinking: Thinking,
    /// The spelling of the message's id, once it has begun.
    id: Option<String>,
    blocks: Blocks,
    calls: Calls,
    cached: Option<u64>,
    stop: Option<Stop>,
    /// The JSON of the sequence that ended the answer, from servers that report it.
    stop_sequence: Option<String>,
}

/// Why the answer ended, as reported by chat completions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Length,
    ToolCalls,
    Filtered,
    /// It reached its end or a stop sequence, or the server reports another reason.
    Other,
}

impl Answer {
    fn new(model: &ModelId, thinking: Thinking) -> Self {
        Self {
            model: serde_json::to_string(model).unwrap_or_else(|_| "\"\"".to_owned()),
            thinking,
            id: None,
            blocks: Blocks::default(),
            calls: Calls::default(),
            cached: None,
            stop: None,
            stop_sequence: None,
        }
    }

    /// Handles a chunk. `generated` selects the generated part of a choice.
    fn take<'a>(
        &mut self,
        data: &'a [u8],
        generated: impl Fn(&Choice<'a>) -> Option<&'a RawValue>,
        tally: &Tally,
        out: &mut BytesMut,
    ) -> Result<(), StreamFault> {
        let chunk: Chunk<'_> = object(data).ok_or(StreamFault::Malformed)?;
        if let Some(ChunkUsage { prompt_tokens_details }) = parse(chunk.usage) {
            let details = parse::<PromptDetails<'_>>(prompt_tokens_details);
            let cached = details.and_then(|details| details.cached_tokens?.get().parse().ok());
            self.cached = cached.or(self.cached);
        }
        if self.id.is_none() {
            let id = chunk.id.and_then(spelling).filter(|id| !id.is_empty()).unwrap_or(NO_ID);
            // The number of output tokens is known at its end.
            frames::message_start(id, &self.model, Usage { output: 0, ..self.usage(tally) }, out);
            self.id = Some(id.to_owned());
        }
        let Some(choices) = chunk.choices else { return Ok(()) };
        each(choices, StreamFault::Malformed, |choice| {
            let choice: Choice<'a> = object(choice.get().as_bytes()).ok_or(StreamFault::Malformed)?;
            // Only one choice is requested.
            if choice.index != 0 {
                return Ok(());
            }
            self.note_stop(&choice);
            generated(&choice).map_or(Ok(()), |generated| self.say(generated, out))
        })
    }

    fn say(&mut self, generated: &RawValue, out: &mut BytesMut) -> Result<(), StreamFault> {
        let generated: Generated<'_> = object(generated.get().as_bytes()).ok_or(StreamFault::Malformed)?;
        let (reasoning_content, reasoning) = (text(generated.reasoning_content)?, text(generated.reasoning)?);
        if self.thinking == Thinking::Shown {
            // Servers that send both repeat the same text.
            let thinking = if reasoning_content.is_empty() { reasoning } else { reasoning_content };
            self.voice(Voice::Thinking, thinking, out)?;
        }
        self.voice(Voice::Text, text(generated.content)?, out)?;
        self.voice(Voice::Text, text(generated.refusal)?, out)?;
        let Some(calls) = generated.tool_calls else { return Ok(()) };
        each(calls, StreamFault::Malformed, |call| self.calls.take(call, &mut self.blocks, out))
    }

    fn voice(&mut self, voice: Voice, spelling: &str, out: &mut BytesMut) -> Result<(), StreamFault> {
        if !self.calls.is_empty() {
            return self.calls.hold(voice, spelling);
        }
        self.blocks.say(voice, spelling, out);
        Ok(())
    }

    fn note_stop(&mut self, choice: &Choice<'_>) {
        let is = |reason| is_text(choice.finish_reason, reason);
        if is("length") {
            self.stop = Some(Stop::Length);
        } else if is("tool_calls") || is("function_call") {
            self.stop = Some(Stop::ToolCalls);
        } else if is("content_filter") {
            self.stop = Some(Stop::Filtered);
        } else if choice.finish_reason.is_some() {
            self.stop = Some(Stop::Other);
        }
        // If it is a number, it is the token that ended the answer.
        let matched = [choice.stop_reason, choice.matched_stop].into_iter().flatten();
        if let Some(sequence) = matched.into_iter().find(|matched| spelling(matched).is_some()) {
            self.stop_sequence = Some(sequence.get().to_owned());
        }
    }

    /// The end mark was received.
    fn finish(&mut self, tally: &Tally, out: &mut BytesMut) -> Result<(), StreamFault> {
        let id = self.id.take().ok_or(StreamFault::Malformed)?;
        let has_calls = self.calls.finish(&id, &mut self.blocks, out)?;
        self.blocks.close(out);
        let sequence = self.stop_sequence.as_deref();
        let (reason, sequence) = match self.stop {
            Some(Stop::Length) => ("max_tokens", None),
            Some(Stop::Filtered) => ("refusal", None),
            // Many servers report `stop` after a call too.
            _ if has_calls => ("tool_use", None),
            _ if sequence.is_some() => ("stop_sequence", sequence),
            Some(Stop::ToolCalls | Stop::Other) | None => ("end_turn", None),
        };
        frames::message_end(reason, sequence.unwrap_or("null"), self.usage(tally), out);
        Ok(())
    }

    fn usage(&self, tally: &Tally) -> Usage {
        let tokens = tally.tokens();
        Usage { input: tokens.input, output: tokens.output, cached: self.cached }
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChunkUsage<'a> {
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PromptDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    /// vLLM's.
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    /// SGLang's.
    #[serde(borrow)]
    matched_stop: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Generated<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    /// The member for thinking in llama.cpp, SGLang and older vLLM.
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    /// The member for thinking in newer vLLM, Ollama and OpenRouter.
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}
