//! The tool calls of one answer, whose pieces may come in any order, as blocks that come one after another.
//!
//! The first call is passed on as it comes. What comes of others meanwhile, and whatever the model says besides, is held
//! back until the end: a closed block can't be opened again, and nothing says when a call is complete.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::StreamFault;
use super::frames::{Blocks, Voice};
use super::json::spelling;
use crate::core::json::object;

/// Calls that one answer may have.
const MAX_CALLS: u64 = 256;
/// Bytes that may be held back.
const HELD_LIMIT: usize = 4 << 20;
/// What a part that is held back costs beside its own bytes.
const PART_COST: usize = 64;

/// A call's index, and its number among those of that index: some servers give all calls the same one, and tell them apart
/// by their ids.
type Place = (u64, usize);

/// The tool calls of one answer, and what the model says after the first of them.
#[derive(Default)]
pub(super) struct Calls {
    calls: BTreeMap<Place, Call>,
    /// The call that is passed on as it comes: the first that came.
    live: Option<Place>,
    said: Vec<(Voice, String)>,
    held: usize,
}

/// One call. Its texts are spelled for JSON.
#[derive(Default)]
struct Call {
    id: Option<String>,
    name: Option<String>,
    /// What of its input was not passed on yet.
    input: String,
    has_begun: bool,
}

impl Calls {
    /// Whether there is no call yet: what the model says need not be held back.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Holds back what the model says.
    pub(super) fn hold(&mut self, voice: Voice, spelling: &str) -> Result<(), StreamFault> {
        if spelling.is_empty() {
            return Ok(());
        }
        self.held += spelling.len();
        match self.said.last_mut().filter(|(last, _)| *last == voice) {
            Some((_, said)) => said.push_str(spelling),
            None => {
                self.held += PART_COST;
                self.said.push((voice, spelling.to_owned()));
            }
        }
        self.check()
    }

    /// Takes the next piece of a call.
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

    /// Where a piece with this index and this id belongs.
    fn place(&self, index: Option<u64>, id: &str) -> Place {
        // Servers that give whole calls leave the index out: an id begins a call, what has none goes on with it.
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

    /// No more comes: passes on what was held back. A call without an id gets one made of the message's. Gives back
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
        for (voice, said) in self.said.drain(..) {
            blocks.say(voice, &said, out);
        }
        Ok(has_calls)
    }

    /// After each event, which is itself bounded.
    fn check(&self) -> Result<(), StreamFault> {
        if self.held > HELD_LIMIT { Err(StreamFault::TooLarge) } else { Ok(()) }
    }
}

/// Keeps the first text that says anything. Gives back how many bytes it kept of this one.
fn keep_first(kept: &mut Option<String>, text: &str) -> usize {
    if kept.is_some() || text.is_empty() {
        return 0;
    }
    kept.insert(text.to_owned()).len()
}

/// The spelling of a text that may be missing.
pub(super) fn text(value: Option<&RawValue>) -> Result<&str, StreamFault> {
    value.map_or(Ok(""), |value| spelling(value).ok_or(StreamFault::Malformed))
}

/// The spelling of a call's arguments: of the text that they should be, or of the text of the JSON that some servers give
/// instead.
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
