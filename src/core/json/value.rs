//! Values that are parsed into types, and values that keep their spelling.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// Reads a struct from a JSON object; serde alone would also take an array.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

/// The same for a member that may be missing.
pub(crate) fn parse<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    object(value?.get().as_bytes())
}

/// A struct within another one that is read from a JSON object only, as with [`object`].
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

impl<T: Serialize> Serialize for Object<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Reads a member that counts as missing when it is not a `T`. Needs `#[serde(default)]` as well.
pub(crate) fn maybe<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    // The raw text is borrowed: nothing of an unfit value is ever built.
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// Reads a member that counts as missing when it is not an integer of 0 or more. Needs `#[serde(default)]` as well.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(|raw| raw.get().parse().ok())
}

/// Reads a member whose value is one of a few words, such as `type`: the word, which no server spells with escapes; empty
/// for null; any other value as it is spelled, which differs from all words. Needs `#[serde(default)]` as well.
pub(crate) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    let null_is_empty = if raw.get() == RawValue::NULL.get() { "" } else { raw.get() };
    Ok(spelling(raw).unwrap_or(null_is_empty))
}

/// The spelling of a text between its quotes; `None` if the value is not a text.
///
/// Concatenated spellings, between quotes, spell the concatenated texts.
pub(crate) fn spelling(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

/// The spelling of the elements of a list between its brackets, without white space around them; `None` if the value is not a
/// list.
pub(crate) fn elements(value: &RawValue) -> Option<&str> {
    Some(value.get().strip_prefix('[')?.strip_suffix(']')?.trim_ascii())
}

/// The text with this spelling; `None` if no text has it.
pub(crate) fn spelled(spelling: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(format!("\"{spelling}\"")).ok()
}

/// A text as JSON.
pub(crate) fn text(text: &str) -> Box<RawValue> {
    // A text always serializes.
    raw(text).unwrap_or_default()
}

/// An object without members.
pub(crate) fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

/// A value as it is serialized; `None` if it cannot be, which plain data with string keys always can.
pub(crate) fn raw(value: &(impl Serialize + ?Sized)) -> Option<Box<RawValue>> {
    to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Event<'a> {
        #[serde(borrow, rename = "type", default, deserialize_with = "word")]
        kind: &'a str,
        #[serde(default, deserialize_with = "maybe")]
        size: Option<u64>,
        #[serde(default, deserialize_with = "count")]
        count: Option<u64>,
    }

    #[derive(serde::Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        inner: Option<Object<Event<'a>>>,
    }

    #[test]
    fn only_an_object_is_read_as_a_struct() {
        let read = |json: &'static str| object::<Outer<'_>>(json.as_bytes()).map(|outer| outer.inner.map(|it| it.0));
        let event = Event { kind: "a", size: None, count: Some(1) };
        assert_eq!(read(r#" {"inner":{"type":"a","count":1,"x":[{}]}}"#), Some(Some(event)));
        assert_eq!(read(r#"{"inner":null}"#), Some(None));
        assert_eq!(read("{}"), Some(None));
        for json in [r#"{"inner":["a",1]}"#, r#"{"inner":7}"#, r#"[{"type":"a"}]"#, "{"] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn a_word_is_read_as_it_is_spelled() {
        let kind = |json: &'static str| object::<Event<'_>>(json.as_bytes()).map(|event| event.kind);
        for (json, expected) in [
            (r#"{"type":"text"}"#, "text"),
            (r#"{"type":"t\u0065xt"}"#, r"t\u0065xt"),
            (r#"{"type":null}"#, ""),
            ("{}", ""),
            (r#"{"type":7}"#, "7"),
            (r#"{"type":["text"]}"#, r#"["text"]"#),
        ] {
            assert_eq!(kind(json), Some(expected), "{json}");
        }
    }

    #[test]
    fn a_member_of_the_wrong_type_is_missing() {
        for wrong in ["null", "-1", "1.5", "\"7\"", "[7]", "{\"a\":{}}", "18446744073709551616"] {
            let json = format!(r#"{{"size":{wrong},"count":{wrong}}}"#);
            assert_eq!(
                object::<Event<'_>>(json.as_bytes()),
                Some(Event { kind: "", size: None, count: None }),
                "{wrong}"
            );
        }
    }

    #[test]
    fn spellings_are_joined_without_being_decoded() {
        let half = |json: &'static str| serde_json::from_str::<&RawValue>(json).unwrap();
        let halves = [half(r#""\ud83d""#), half(r#""\ude00""#)];
        let joined = spelled(&halves.map(|half| spelling(half).unwrap()).concat()).unwrap();
        assert_eq!(serde_json::from_str::<String>(joined.get()).unwrap(), "\u{1F600}");
        let list = |json: &'static str| elements(half(json));
        assert_eq!((list("[ 1, 2 ]"), list("[]"), list("{}")), (Some("1, 2"), Some(""), None));
        assert!(spelled("\"").is_none() && spelled("\\").is_none() && spelling(RawValue::NULL).is_none());
    }
}
