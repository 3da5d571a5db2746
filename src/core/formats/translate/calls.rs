//! Converts the tool calls of one answer, whose pieces may arrive in any order, to consecutive blocks.
//!
//! The first call is passed on as it is received. Pieces of other calls, and text of the model after the first call, are
//! held until the end: a closed block can't be opened again, and no event marks the end of a call.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::fault::StreamFault;
use super::frames::{Blocks, Voice};
use crate::core::formats::openai::{CallPlace, KnownCall, MAX_TOOL_CALLS, ToolCall};
use crate::core::json::{self, Object, spelled, spelling};

/// The most bytes that are held.
const HELD_LIMIT: usize = 4 << 20;
/// The cost of a held part in addition to its bytes.
const PART_COST: usize = 64;

/// The tool calls of one answer, and the model's text after the first of them.
#[derive(Default)]
pub(super) struct Calls {
    calls: BTreeMap<CallPlace, Call>,
    /// The call that is passed on as it is received: the first one.
    live: Option<CallPlace>,
    /// With the spelling of the text.
    later: Vec<(Voice, String)>,
    held: usize,
}

/// One call.
#[derive(Default)]
struct Call {
    id: Option<Box<RawValue>>,
    name: Option<Box<RawValue>>,
    /// The spelling of the part of its input that was not passed on yet.
    input: String,
    has_begun: bool,
}

impl KnownCall for Call {
    fn id(&self) -> Option<&RawValue> {
        self.id.as_deref()
    }

    fn has_name(&self) -> bool {
        self.name.is_some()
    }
}

impl Calls {
    /// Whether there is no call yet, so that text need not be held.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Holds text of the model.
    pub(super) fn hold(&mut self, voice: Voice, text: Option<&RawValue>) -> Result<(), StreamFault> {
        let spelling = spelling_of(text)?;
        if spelling.is_empty() {
            return Ok(());
        }
        self.held += spelling.len();
        match self.later.last_mut().filter(|(last, _)| *last == voice) {
            Some((_, later)) => later.push_str(spelling),
            None => {
                self.held += PART_COST;
                self.later.push((voice, spelling.to_owned()));
            }
        }
        self.check()
    }

    /// Handles the next piece of a call.
    pub(super) fn take(
        &mut self,
        piece: ToolCall<&RawValue>,
        blocks: &mut Blocks,
        out: &mut BytesMut,
    ) -> Result<(), StreamFault> {
        let id = text(piece.id)?;
        let place = piece.place(&self.calls);
        let (name, arguments) = piece.function.map_or((None, None), |Object(it)| (it.name, it.arguments));
        let (name, arguments) = (text(name)?, input_of(arguments));
        let is_new = !self.calls.contains_key(&place);
        if place.0 >= MAX_TOOL_CALLS as u64 || is_new && self.calls.len() >= MAX_TOOL_CALLS {
            return Err(StreamFault::TooLarge);
        }
        let is_live = *self.live.get_or_insert(place) == place;
        let call = self.calls.entry(place).or_default();
        let kept = keep_first(&mut call.id, id) + keep_first(&mut call.name, name);
        self.held += kept + if is_new { PART_COST } else { 0 };
        if let (true, false, Some(id), Some(name)) = (is_live, call.has_begun, &call.id, &call.name) {
            blocks.begin_tool(id, name, out);
            call.has_begun = true;
            self.held = self.held.saturating_sub(call.input.len());
            blocks.tool_input(&taken(&mut call.input)?, out);
        }
        if let Some(arguments) = arguments {
            if call.has_begun {
                blocks.tool_input(&arguments, out);
            } else {
                let arguments = spelling(&arguments).unwrap_or_default();
                self.held += arguments.len();
                call.input.push_str(arguments);
            }
        }
        self.check()
    }

    /// The answer has ended: passes on the held parts. A call without an id gets one derived from the message's. Returns
    /// whether there was a call.
    pub(super) fn finish(
        &mut self,
        message_id: &RawValue,
        blocks: &mut Blocks,
        out: &mut BytesMut,
    ) -> Result<bool, StreamFault> {
        let mut calls = std::mem::take(&mut self.calls);
        let live = self.live.and_then(|live| Some((live, calls.remove(&live)?)));
        let has_calls = live.is_some();
        for ((index, _), mut call) in live.into_iter().chain(calls) {
            if !call.has_begun {
                let name = call.name.ok_or(StreamFault::Malformed)?;
                let id =
                    call.id.or_else(|| spelled(&format!("toolu_{}_{index}", spelling(message_id).unwrap_or_default())));
                blocks.begin_tool(&id.ok_or(StreamFault::Malformed)?, &name, out);
            }
            blocks.tool_input(&taken(&mut call.input)?, out);
        }
        for (voice, mut later) in self.later.drain(..) {
            blocks.say(voice, &taken(&mut later)?, out);
        }
        Ok(has_calls)
    }

    /// After each event, which is itself bounded.
    fn check(&self) -> Result<(), StreamFault> {
        if self.held > HELD_LIMIT { Err(StreamFault::TooLarge) } else { Ok(()) }
    }
}

/// Keeps the first text. Returns how many bytes of this one it kept.
fn keep_first(kept: &mut Option<Box<RawValue>>, text: Option<&RawValue>) -> usize {
    match text {
        Some(text) if kept.is_none() => kept.insert(text.to_owned()).get().len(),
        _ => 0,
    }
}

/// An optional text, `None` if it is empty.
pub(super) fn text(value: Option<&RawValue>) -> Result<Option<&RawValue>, StreamFault> {
    Ok(if spelling_of(value)?.is_empty() { None } else { value })
}

fn spelling_of(value: Option<&RawValue>) -> Result<&str, StreamFault> {
    value.map_or(Some(""), spelling).ok_or(StreamFault::Malformed)
}

/// The text with this spelling, which is empty afterwards.
fn taken(spelling: &mut String) -> Result<Box<RawValue>, StreamFault> {
    spelled(&std::mem::take(spelling)).ok_or(StreamFault::Malformed)
}

/// A call's arguments as a text: some servers send the JSON instead of a text of it.
fn input_of(arguments: Option<&RawValue>) -> Option<Cow<'_, RawValue>> {
    let arguments = arguments?;
    Some(match spelling(arguments) {
        Some(_) => Cow::Borrowed(arguments),
        None => Cow::Owned(json::text(arguments.get())),
    })
}
