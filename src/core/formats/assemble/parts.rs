//! The parts of assembled bodies: JSON that keeps its spelling, and a budget for its size.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::AssembleError;
use crate::core::json;

/// The most choices of one response.
pub(in crate::core::formats) const MAX_CHOICES: usize = 128;
/// The most tool calls of one choice.
pub(in crate::core::formats) const MAX_TOOL_CALLS: usize = 256;
/// The most content blocks of one message.
pub(in crate::core::formats) const MAX_BLOCKS: usize = 256;
/// The cost of a part in addition to its bytes, so that many empty parts are bounded too.
const PART_COST: usize = 64;

/// Bytes that may still be kept.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self(limit)
    }

    /// Pays for bytes that will be kept.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), AssembleError> {
        self.0 = self.0.checked_sub(bytes).ok_or(AssembleError::TooLarge)?;
        Ok(())
    }

    /// Pays for one more part.
    pub(super) fn spend_part(&mut self) -> Result<(), AssembleError> {
        self.spend(PART_COST)
    }

    fn refund(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }
}

/// A value that the stream sends whole.
#[derive(Default)]
pub(super) struct Kept(Option<Box<RawValue>>);

impl Kept {
    /// Keeps the first value.
    pub(super) fn first(&mut self, value: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        if self.0.is_none() { self.last(value, budget) } else { Ok(()) }
    }

    /// Keeps the last value.
    pub(super) fn last(&mut self, value: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        if let Some(value) = value {
            budget.refund(self.0.take().map_or(0, |old| old.get().len()));
            budget.spend(value.get().len())?;
            self.0 = Some(value.to_owned());
        }
        Ok(())
    }

    /// Whether it differs from this value.
    pub(super) fn differs_from(&self, value: &RawValue) -> bool {
        self.0.as_deref().is_some_and(|kept| kept.get() != value.get())
    }

    pub(super) fn into_inner(self) -> Option<Box<RawValue>> {
        self.0
    }
}

/// The text of a JSON string that is being assembled, in the spelling of its pieces. Nothing is decoded, so a pair of
/// surrogate escapes that was cut in two is whole again.
#[derive(Default)]
pub(super) struct JsonText(String);

impl JsonText {
    /// Appends a piece, if there is one.
    pub(super) fn push(&mut self, piece: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        let Some(piece) = piece else { return Ok(()) };
        let text = piece.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let text = text.ok_or(AssembleError::Malformed)?;
        budget.spend(text.len())?;
        if self.0.is_empty() && !text.is_empty() {
            self.0.push('"');
        }
        self.0.push_str(text);
        Ok(())
    }

    /// Appends a piece that should be a string. If it is JSON of another kind, its text is appended.
    pub(super) fn push_text_of(&mut self, piece: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        match piece {
            Some(json) if !json.get().starts_with('"') => self.push(Some(&*quoted(json)?), budget),
            _ => self.push(piece, budget),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON string, empty without a piece.
    pub(super) fn into_json(mut self) -> Result<Box<RawValue>, AssembleError> {
        self.0.push_str(if self.0.is_empty() { "\"\"" } else { "\"" });
        RawValue::from_string(self.0).map_err(|_| AssembleError::Malformed)
    }

    /// The JSON string, `None` if it is empty.
    pub(super) fn into_json_unless_empty(self) -> Result<Option<Box<RawValue>>, AssembleError> {
        if self.is_empty() { Ok(None) } else { self.into_json().map(Some) }
    }

    /// The content of the string, if that is the text of a JSON object.
    pub(super) fn into_object(self) -> Option<Box<RawValue>> {
        let text: String = serde_json::from_str(self.into_json().ok()?.get()).ok()?;
        RawValue::from_string(text).ok().filter(|json| json.get().starts_with('{'))
    }
}

/// The text of the elements of a JSON array that is being assembled.
#[derive(Default)]
pub(super) struct JsonList(String);

impl JsonList {
    /// Appends the elements of an array, if there is one.
    pub(super) fn extend(&mut self, array: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        let Some(array) = array else { return Ok(()) };
        let elements = array.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        self.append(elements.ok_or(AssembleError::Malformed)?.trim_ascii(), budget)
    }

    /// Appends one element, if there is one.
    pub(super) fn push(&mut self, element: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        element.map_or(Ok(()), |element| self.append(element.get(), budget))
    }

    fn append(&mut self, elements: &str, budget: &mut Budget) -> Result<(), AssembleError> {
        if !elements.is_empty() {
            budget.spend(elements.len() + 1)?;
            self.0.push(if self.0.is_empty() { '[' } else { ',' });
            self.0.push_str(elements);
        }
        Ok(())
    }

    /// The array, `None` without an element.
    pub(super) fn into_json(mut self) -> Result<Option<Box<RawValue>>, AssembleError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.0.push(']');
        RawValue::from_string(self.0).map(Some).map_err(|_| AssembleError::Malformed)
    }
}

/// The part of that index, which is untrusted until it is known to be small.
pub(super) fn part<'p, T: Default>(
    parts: &'p mut BTreeMap<usize, T>,
    index: u64,
    limit: usize,
    budget: &mut Budget,
) -> Result<&'p mut T, AssembleError> {
    let index = usize::try_from(index).ok().filter(|&index| index < limit).ok_or(AssembleError::TooMany)?;
    if !parts.contains_key(&index) {
        budget.spend_part()?;
    }
    Ok(parts.entry(index).or_default())
}

/// An array of which at most `N` elements are kept while it is read.
pub(in crate::core::formats) struct Few<T, const N: usize> {
    kept: Vec<T>,
    overflown: bool,
}

impl<T, const N: usize> Few<T, N> {
    /// The elements, if there are not too many.
    pub(in crate::core::formats) fn into_vec(self) -> Result<Vec<T>, AssembleError> {
        if self.overflown { Err(AssembleError::TooMany) } else { Ok(self.kept) }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Few<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for FewVisitor<T, N> {
    type Value = Few<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut few = Few { kept: Vec::new(), overflown: false };
        while few.kept.len() < N {
            match seq.next_element()? {
                Some(element) => few.kept.push(element),
                None => return Ok(few),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            few.overflown = true;
        }
        Ok(few)
    }
}

/// Reads a struct from a JSON object; serde alone would also accept an array.
pub(in crate::core::formats) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, AssembleError> {
    json::object(json).ok_or(AssembleError::Malformed)
}

/// The same for an optional member.
pub(super) fn member<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Result<Option<T>, AssembleError> {
    value.map(|value| object(value.get().as_bytes())).transpose()
}

/// The JSON string whose text is this JSON.
fn quoted(json: &RawValue) -> Result<Box<RawValue>, AssembleError> {
    serde_json::value::to_raw_value(json.get()).map_err(|_| AssembleError::Malformed)
}

/// JSON that this crate itself adds.
pub(super) fn raw(json: &str) -> Result<Box<RawValue>, AssembleError> {
    RawValue::from_string(json.to_owned()).map_err(|_| AssembleError::Malformed)
}
