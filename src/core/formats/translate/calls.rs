//! Converts the tool calls of one answer, whose pieces may arrive in any order, to consecutive blocks.
//!
//! The first call is passed on as it is received. Pieces of other calls, and text of the model after the first call, are
//! held until the end: a closed block can't be opened again, and no event marks the end of a call.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::StreamFault;
use super::frames::{Blocks, Voice};
use super::json::spelling;
use crate::core::json::object;

/// The most calls of one answer.
const MAX_CALLS: u64 = 256;
/// The most bytes that are held.
const HELD_LIMIT: usize = 4 << 20;
/// The cost of a held part in addition to its bytes.
const PART_COST: usize = 64;

/// A call's index, and its number among the calls with that index: some servers use the same index for all calls, and
/// distinguish them by their ids.
type Place = (u64, usize);

/// The tool calls of one answer, and the model's text after the first of them.
#[derive(Default)]
pub(super) struct Calls {
    calls: BTreeMap<Place, Call>,
    /// The call that is passed on as it is received: the first one.
    live: Option<Place>,
    later: Vec<(Voice, String)>,
    held: usize,
}

/// One call. Its texts are spelled for JSON.
#[derive(Default)]
struct Call {
    id: Option<String>,
    name: Option<String>,
    /// The part of its input that was not passed on yet.
    input: String,
    has_begun: bool,
}

impl Calls {
    /// Whether there is no call yet, so that text need not be held.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Holds text of the model.
    pub(super) fn hold(&mut self, voice: Voice, spelling: &str) -> Result<(), StreamFault> {
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
        piece: &RawValue,
        blocks: &mut Blocks,
        out: &mut BytesMut,
    ) -> Result<(), StreamFault> {
        let piece: Piece<'_> = object(piece.get().as_bytes()).ok_or(StreamFault::Malformed)?;
        let function = piece.function.map(|function| object::<Function<'_>>(function.get().as_bytes()));
        let Function { name, arguments } = match function {
            Some(function) => function.ok_or(StreamFault::Malformed)?,
            None => Function { name: None, arguments: None },
        };
        let (id, name, arguments) = (text(piece.id)?, text(name)?, spelled(arguments));
        let place = self.place(piece.index, id);
        let is_new = !self.calls.contains_key(&place);
        if place.0 >= MAX_CALLS || is_new && self.calls.len() as u64 >= MAX_CALLS {
            return Err(StreamFault::TooLarge);
        }
        let is_live = *self.live.get_or_insert(place) == place;
        let call = self.calls.entry(place).or_default();
        let kept = keep_first(&mut call.id, id) + keep_first(&mut call.name, name) + arguments.len();
        call.input.push_str(&arguments);
        self.held += kept + if is_new { PART_COST } else { 0 };
        if is_live {
            if let (false, Some(id), Some(name)) = (call.has_begun, &call.id, &call.name) {
                blocks.begin_tool(id, name, out);
                call.has_begun = true;
            }
            if call.has_begun {
                blocks.tool_input(&call.input, out);
                self.held = self.held.saturating_sub(call.input.len());
                call.input.clear();
            }
        }
        self.check()
    }

    /// The key of a piece with this index and this id.
    fn place(&self, index: Option<u64>, id: &str) -> Place {
        // Servers that send whole calls leave the index out: an id begins a call, a piece without an id continues it.
        let last = self.calls.last_key_value().map(|(&(index, _), _)| index);
        let next = last.map_or(0, |last| if id.is_empty() { last } else { last + 1 });
        let index = index.unwrap_or(next);
        match self.calls.range((index, 0)..=(index, usize::MAX)).next_back() {
            Some((&(_, nth), call)) if !id.is_empty() && call.id.as_deref().is_some_and(|own| own != id) => {
                (index, nth + 1)
            }
            Some((&place, _)) => place,
            None => (index, 0),
        }
    }

    /// The answer has ended: passes on the held parts. A call without an id gets one derived from the message's. Returns
    /// whether there was a call.
    pub(super) fn finish(
        &mut self,
        message_id: &str,
        blocks: &mut Blocks,
        out: &mut BytesMut,
    ) -> Result<bool, StreamFault> {
        let mut calls = std::mem::take(&mut self.calls);
        let live = self.live.and_then(|live| Some((live, calls.remove(&live)?)));
        let has_calls = live.is_some();
        for ((index, _), call) in live.into_iter().chain(calls) {
            if !call.has_begun {
                let name = call.name.ok_or(StreamFault::Malformed)?;
                let id = call.id.unwrap_or_else(|| format!("toolu_{message_id}_{index}"));
                blocks.begin_tool(&id, &name, out);
            }
            blocks.tool_input(&call.input, out);
        }
        for (voice, later) in self.later.drain(..) {
            blocks.say(voice, &later, out);
        }
        Ok(has_calls)
    }

    /// After each event, which is itself bounded.
    fn check(&self) -> Result<(), StreamFault> {
        if self.held > HELD_LIMIT { Err(StreamFault::TooLarge) } else { Ok(()) }
    }
}

/// Keeps the first text that is not empty. Returns how many bytes of this one it kept.
fn keep_first(kept: &mut Option<String>, text: &str) -> usize {
    if kept.is_some() || text.is_empty() {
        return 0;
    }
    kept.insert(text.to_owned()).len()
}

/// The spelling of an optional text.
pub(super) fn text(value: Option<&RawValue>) -> Result<&str, StreamFault> {
    value.map_or(Ok(""), |value| spelling(value).ok_or(StreamFault::Malformed))
}

/// The spelling of a call's arguments: of the text, or of the JSON that some servers send instead of a text.
fn spelled(arguments: Option<&RawValue>) -> Cow<'_, str> {
    let Some(arguments) = arguments else { return Cow::Borrowed("") };
    spelling(arguments).map_or_else(
        || {
            let quoted = serde_json::to_string(arguments.get()).unwrap_or_default();
            Cow::Owned(quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned())
        },
        Cow::Borrowed,
    )
}

#[derive(Deserialize)]
struct Piece<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}
