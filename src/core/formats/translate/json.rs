//! Reads JSON without decoding it: the spelling of texts, and the elements of lists.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The spelling of a text between its quotes; `None` if the value is not a text.
///
/// Concatenated spellings, between quotes, spell the concatenated texts.
pub(super) fn spelling(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

/// Calls `on_element` with each element of a list, up to its first error. Returns `not_a_list` if it is not a list.
pub(super) fn each<'a, E>(
    list: &'a RawValue,
    not_a_list: E,
    on_element: impl FnMut(&'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    let mut error = None;
    let visitor = Elements { on_element, error: &mut error };
    let visited = serde_json::Deserializer::from_str(list.get()).deserialize_seq(visitor);
    match (error, visited) {
        (Some(error), _) => Err(error),
        (None, Err(_)) => Err(not_a_list),
        (None, Ok(())) => Ok(()),
    }
}

struct Elements<'e, F, E> {
    on_element: F,
    error: &'e mut Option<E>,
}

impl<'de, E, F: FnMut(&'de RawValue) -> Result<(), E>> Visitor<'de> for Elements<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            if let Err(error) = (self.on_element)(element) {
                *self.error = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
