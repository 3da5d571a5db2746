//! Reads a struct from a JSON object and from nothing else. Used where the shape of an error body is checked.

use serde::Deserialize;

/// Reads a struct from a JSON object. Serde alone would also accept an array.
pub(crate) fn read_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}
