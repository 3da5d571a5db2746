//! The parts of assembled bodies: JSON that keeps its spelling, and a budget for its size.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::AssembleError;
use crate::core::json::{self, Few, spelling, text};

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

    pub(super) fn get(&self) -> Option<&RawValue> {
        self.0.as_deref()
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
        let spelling = spelling(piece).ok_or(AssembleError::Malformed)?;
        budget.spend(spelling.len())?;
        if self.0.is_empty() && !spelling.is_empty() {
            self.0.push('"');
        }
        self.0.push_str(spelling);
        Ok(())
    }

    /// Appends a piece that should be a string. If it is JSON of another kind, its text is appended.
    pub(super) fn push_text_of(&mut self, piece: Option<&RawValue>, budget: &mut Budget) -> Result<(), AssembleError> {
        match piece {
            Some(json) if !json.get().starts_with('"') => self.push(Some(&*text(json.get())), budget),
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
        self.append(json::elements(array).ok_or(AssembleError::Malformed)?, budget)
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

/// The elements of a list, none if it is missing.
pub(super) fn elements<T, const N: usize>(list: Option<Few<T, N>>) -> Result<Vec<T>, AssembleError> {
    list.map_or(Some(Vec::new()), Few::into_vec).ok_or(AssembleError::TooMany)
}

/// Reads a struct from a JSON object.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, AssembleError> {
    json::object(json).ok_or(AssembleError::Malformed)
}

/// The same for an optional member.
pub(super) fn member<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Result<Option<T>, AssembleError> {
    value.map(|value| object(value.get().as_bytes())).transpose()
}
