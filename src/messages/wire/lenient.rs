//! Fields of extensions in frames of peers that may not know them: a value of another type counts as missing.
//!
//! Nothing is buffered. An unwanted value is skipped as it is read, so a frame never needs more memory than it has bytes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A type of a field. Each method makes it of one kind of JSON value; `None` if it has no such value.
pub(super) trait FieldValue: Sized {
    /// From a number without a sign.
    fn of_number(_: u64) -> Option<Self> {
        None
    }

    /// From a text.
    fn of_text(_: &str) -> Option<Self> {
        None
    }

    /// From a list, which must be read to its end.
    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl FieldValue for u16 {
    fn of_number(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl FieldValue for u64 {
    fn of_number(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl FieldValue for String {
    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// Reads a field of any type.
pub(super) fn field<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FieldValue,
{
    deserializer.deserialize_any(FieldVisitor(PhantomData))
}

/// Reads a list of texts and combines what they name. `None` if an element is not a text.
pub(super) fn texts<'de, A, T>(mut list: A, mut sum: T, add: impl Fn(T, &str) -> T) -> Result<Option<T>, A::Error>
where
    A: SeqAccess<'de>,
    T: Copy,
{
    let mut all_texts = true;
    while let Some(Element(text)) = list.next_element::<Element<String>>()? {
        match text {
            Some(text) => sum = add(sum, &text),
            None => all_texts = false,
        }
    }
    Ok(all_texts.then_some(sum))
}

/// An element of a list, of any type.
struct Element<T>(Option<T>);

impl<'de, T: FieldValue> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        field(deserializer).map(Self)
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: FieldValue> Visitor<'de> for FieldVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<T>, E> {
        Ok(number.try_into().ok().and_then(T::of_number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<T>, E> {
        Ok(T::of_number(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<T>, E> {
        Ok(T::of_text(text))
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Option<T>, A::Error> {
        T::of_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Option<T>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use crate::messages::endpoint::{Endpoint, Endpoints};
    use crate::messages::wire::{FromAgent, JobChunk, Limits, ModelOffer};

    const ID: &str = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10";

    fn chunk(fields: &str) -> JobChunk {
        let text = format!(r#"{{"type":"job_chunk","job_id":"{ID}","data":"aGk="{fields}}}"#);
        match serde_json::from_str(&text) {
            Ok(FromAgent::JobChunk(chunk)) => chunk,
            other => panic!("no chunk: {other:?}"),
        }
    }

    #[test]
    fn a_field_of_another_type_is_not_there_and_the_frame_is_read() {
        let head = chunk(r#","status":404,"content_type":"application/json""#);
        assert_eq!((head.status, head.content_type.as_deref()), (Some(404), Some("application/json")));
        for other in ["null", "-1", "65536", "1.5", "\"200\"", "[200]", "{\"a\":[]}", "true"] {
            assert_eq!(chunk(&format!(r#","status":{other}"#)), JobChunk::new(ID.parse().unwrap(), "aGk=".into()));
        }
        assert_eq!(chunk(r#","content_type":[[7]]"#).content_type, None);
    }

    #[test]
    fn a_largest_message_is_an_integer_or_not_there() {
        let largest = |field: &str| {
            let text = format!(r#"{{"max_concurrent_total":1,"max_tokens_per_minute":null{field}}}"#);
            serde_json::from_str::<Limits>(&text).unwrap().max_message_bytes
        };
        assert_eq!(largest(r#","max_message_bytes":0"#), Some(0));
        assert_eq!(largest(r#","max_message_bytes":18446744073709551615"#), Some(u64::MAX));
        assert_eq!(largest(""), None);
        for other in ["null", "-1", "65536.0", "1e6", "18446744073709551616", "\"65536\"", "[65536]", "{}", "true"] {
            assert_eq!(largest(&format!(r#","max_message_bytes":{other}"#)), None, "{other}");
        }
    }

    #[test]
    fn endpoints_are_a_list_of_paths_or_not_there() {
        let model = |endpoints: &str| {
            let fields = r#""model_id":"m","input_per_1m":1,"output_per_1m":1,"max_concurrent":1,"backend":"b""#;
            serde_json::from_str::<ModelOffer>(&format!("{{{fields}{endpoints}}}")).unwrap().endpoints
        };
        assert_eq!(model(""), None);
        assert_eq!(model(r#","endpoints":7"#), None);
        assert_eq!(model(r#","endpoints":["/v1/embeddings",7]"#), None);
        let embeddings = Some(Endpoints::NONE.with(Endpoint::Embeddings));
        assert_eq!(model(r#","endpoints":["/v1/embeddings","/v2/later"]"#), embeddings);
    }
}
