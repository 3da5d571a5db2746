//! Converts a stream of chat completions to Anthropic's events.

use std::sync::Arc;

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::calls::{Calls, text};
use super::error::event_error;
use super::fault::StreamFault;
use super::frames::{self, Blocks, Voice};
use super::request::Thinking;
use crate::core::formats::anthropic::{ErrorBody, Usage};
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::openai::{self, ChatChoice, ChatMessage, Completion, PromptDetails};
use crate::core::formats::sse::{Event, SseSplitter};
use crate::core::formats::usage::{BackendFault, Ending, Tally};
use crate::core::json::{self, Few, Object, object, parse, spelling};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;
use crate::messages::wire::Tokens;

/// The longest event that is translated, in bytes: servers may send a whole answer in one event.
pub(crate) const LONGEST_EVENT: usize = 16 << 20;

/// Used if the backend's answer has no id.
const NO_ID: &str = "msg_unnamed";

/// Translates the body of one streamed response.
///
/// It replaces the [`crate::core::formats::usage::ResponseScan`] of a response that is not translated: it also counts the
/// tokens of the response, so its output must not be scanned again. The output depends only on the bytes of the body, not
/// on how they are cut into pieces.
pub(crate) struct MessageEvents {
    splitter: SseSplitter,
    tally: Tally,
    answer: Answer,
    fault: Option<StreamFault>,
    key: Option<Arc<KeyTrace>>,
}

impl MessageEvents {
    /// A translation of an answer of this model, whose name the client sees.
    pub(crate) fn new(model: &ModelId, thinking: Thinking) -> Self {
        Self {
            splitter: SseSplitter::new(LONGEST_EVENT),
            tally: Tally::new(Endpoint::ChatCompletions),
            answer: Answer::new(model, thinking),
            fault: None,
            key: None,
        }
    }

    /// The same, which removes the text of an error that contains this API key.
    pub(crate) fn without_key(self, key: Option<Arc<KeyTrace>>) -> Self {
        Self { key, ..self }
    }

    /// Handles the next piece of the body and appends the resulting events.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut BytesMut) {
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
    pub(crate) fn take_whole(&mut self, body: &[u8], out: &mut BytesMut) {
        let Self { tally, answer, fault, key, .. } = self;
        tally.take_whole(body);
        let taken = if tally.fault().is_some() {
            Err(StreamFault::Reported)
        } else {
            answer.take(body, |choice| choice.message.take(), tally, out).and_then(|()| answer.finish(tally, out))
        };
        *fault = taken.inspect_err(|fault| fail(*fault, body, key.as_deref(), out)).err();
    }

    /// Whether there was an error, which the last event reports.
    pub(crate) fn has_failed(&self) -> bool {
        self.fault.is_some()
    }

    /// The backend's events so far: about one a token.
    pub(crate) fn events(&self) -> u64 {
        self.tally.events()
    }

    /// Whether the last event was written: nothing relevant follows.
    pub(crate) fn is_over(&self) -> bool {
        self.tally.is_complete() || self.fault.is_some()
    }

    /// The body has ended. Appends the events for its last line, and returns how it ended: complete, with the tokens that
    /// the backend reported; failed, with an `error` event at the end; or truncated, without an `error` event and without
    /// `message_stop`. A malformed stream has failed, without a label. One that is too large is unread, and has an `error`
    /// event too.
    pub(crate) fn finish(mut self, out: &mut BytesMut) -> Ending {
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
        answer.take(event.data, |choice| choice.delta.take(), tally, out)
    }
}

/// Appends the event that ends a stream with an error. `data` is the data of the error; its text is left out if it contains
/// the key.
fn fail(fault: StreamFault, data: &[u8], key: Option<&KeyTrace>, out: &mut BytesMut) {
    let error = match fault {
        StreamFault::Reported => {
            let error = event_error(data);
            // Also in what is left of the text: it may have lost characters within the key.
            let has_key = |key: &KeyTrace| key.is_in(data) || key.is_in(error.json().as_bytes());
            if key.is_some_and(has_key) { event_error(b"") } else { error }
        }
        StreamFault::Malformed | StreamFault::TooLarge => ErrorBody::new("api_error", fault.to_string()),
    };
    frames::error(&error, out);
}

/// The message that is being built, from the first choice of each chunk.
struct Answer {
    /// A text.
    model: Box<RawValue>,
    thinking: Thinking,
    /// The message's id, a text, once it has begun.
    id: Option<Box<RawValue>>,
    blocks: Blocks,
    calls: Calls,
    cached: Option<u64>,
    stop: Option<Stop>,
    /// The sequence that ended the answer, a text, from servers that report it.
    stop_sequence: Option<Box<RawValue>>,
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
            model: json::text(model.as_str()),
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
        generated: impl Fn(&mut ChatChoice<&'a RawValue>) -> Option<Object<ChatMessage<&'a RawValue>>>,
        tally: &Tally,
        out: &mut BytesMut,
    ) -> Result<(), StreamFault> {
        let chunk: Completion<'_, &RawValue, ChatChoice<&RawValue>> = object(data).ok_or(StreamFault::Malformed)?;
        if let Some(openai::Usage { prompt_tokens_details, .. }) = parse::<openai::Usage<&RawValue>>(chunk.usage) {
            let details = parse::<PromptDetails>(prompt_tokens_details);
            self.cached = details.and_then(|details| details.cached_tokens).or(self.cached);
        }
        if self.id.is_none() {
            let id = chunk.id.filter(|id| spelling(id).is_some_and(|id| !id.is_empty()));
            let id = id.map_or_else(|| json::text(NO_ID), ToOwned::to_owned);
            // The number of output tokens is known at its end.
            frames::message_start(&id, &self.model, Usage { output_tokens: Some(0), ..self.usage(tally) }, out);
            self.id = Some(id);
        }
        let choices = chunk.choices.map_or(Some(Vec::new()), Few::into_vec).ok_or(StreamFault::TooLarge)?;
        // Only one choice is requested.
        for mut choice in choices.into_iter().filter(|choice| choice.index.unwrap_or(0) == 0) {
            self.note_stop(&choice);
            if let Some(Object(generated)) = generated(&mut choice) {
                self.say(generated, out)?;
            }
        }
        Ok(())
    }

    fn say(&mut self, generated: ChatMessage<&RawValue>, out: &mut BytesMut) -> Result<(), StreamFault> {
        let (reasoning_content, reasoning) = (text(generated.reasoning_content)?, text(generated.reasoning)?);
        if self.thinking == Thinking::Shown {
            // Servers that send both repeat the same text.
            self.voice(Voice::Thinking, reasoning_content.or(reasoning), out)?;
        }
        self.voice(Voice::Text, text(generated.content)?, out)?;
        self.voice(Voice::Text, text(generated.refusal)?, out)?;
        let calls = generated.tool_calls.map_or(Some(Vec::new()), Few::into_vec).ok_or(StreamFault::TooLarge)?;
        calls.into_iter().try_for_each(|call| self.calls.take(call, &mut self.blocks, out))
    }

    fn voice(&mut self, voice: Voice, text: Option<&RawValue>, out: &mut BytesMut) -> Result<(), StreamFault> {
        if !self.calls.is_empty() {
            return self.calls.hold(voice, text);
        }
        if let Some(text) = text {
            self.blocks.say(voice, text, out);
        }
        Ok(())
    }

    fn note_stop(&mut self, choice: &ChatChoice<&RawValue>) {
        if let Some(reason) = choice.finish_reason {
            self.stop = Some(match spelling(reason) {
                Some("length") => Stop::Length,
                Some("tool_calls" | "function_call") => Stop::ToolCalls,
                Some("content_filter") => Stop::Filtered,
                _ => Stop::Other,
            });
        }
        // If it is a number, it is the token that ended the answer.
        let matched = [choice.stop_reason, choice.matched_stop].into_iter().flatten();
        if let Some(sequence) = matched.into_iter().find(|matched| spelling(matched).is_some()) {
            self.stop_sequence = Some(sequence.to_owned());
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
        frames::message_end(reason, sequence.unwrap_or(RawValue::NULL), self.usage(tally), out);
        Ok(())
    }

    /// As Anthropic counts: the prompt without its cached part.
    fn usage(&self, tally: &Tally) -> Usage {
        let Tokens { input, output, .. } = tally.tokens();
        let cached = self.cached.map(|cached| cached.min(input));
        Usage {
            input_tokens: Some(input - cached.unwrap_or(0)),
            cache_creation_input_tokens: None,
            cache_read_input_tokens: cached,
            output_tokens: Some(output),
        }
    }
}
