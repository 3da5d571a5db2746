//! Values that are parsed into types, and texts that are compared as they are spelled.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Reads a struct from a JSON object; serde alone would also take an array.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

/// The same for a member that may be missing.
pub(crate) fn parse<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    object(value?.get().as_bytes())
}

/// Whether a value is this text, spelled without escapes.
pub(crate) fn is_text(value: Option<&RawValue>, text: &str) -> bool {
    value.is_some_and(|value| value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) == Some(text))
}
