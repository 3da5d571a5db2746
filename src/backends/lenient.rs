//! Reading JSON that others wrote for others: a field of the wrong type is one that is not there, and a list is read up
//! to a bound. Used by the kinds' documents through serde attributes; works on JSON in memory only.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub(super) use crate::core::json::maybe;

/// Entries of a list that are kept. Further ones are skipped.
pub(super) const MOST_ENTRIES: usize = 4096;

/// A list of what in it is a `T`; `null`, as some servers write an empty list, is one.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    deserializer.deserialize_any(Bounded(PhantomData))
}

struct Bounded<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MOST_ENTRIES {
            match entries.next_element::<&RawValue>()? {
                Some(raw) => kept.extend(serde_json::from_str::<T>(raw.get())),
                None => return Ok(kept),
            }
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Document {
        #[serde(deserialize_with = "list")]
        entries: Vec<Entry>,
    }

    #[derive(Deserialize, Debug, PartialEq)]
    struct Entry {
        id: String,
        #[serde(default, deserialize_with = "maybe")]
        size: Option<u64>,
    }

    fn read(json: &str) -> Option<Vec<Entry>> {
        serde_json::from_str::<Document>(json).ok().map(|document| document.entries)
    }

    fn entry(id: &str, size: Option<u64>) -> Entry {
        Entry { id: id.to_owned(), size }
    }

    #[test]
    fn a_field_of_the_wrong_type_is_missing() {
        for wrong in ["null", "-1", "1.5", "\"7\"", "[7]", "{\"a\":{}}", "18446744073709551616"] {
            let json = format!(r#"{{"entries":[{{"id":"a","size":{wrong}}},{{"size":3,"id":"b"}}]}}"#);
            assert_eq!(read(&json), Some(vec![entry("a", None), entry("b", Some(3))]), "{wrong}");
        }
    }

    #[test]
    fn an_entry_of_the_wrong_type_is_skipped() {
        assert_eq!(read(r#"{"entries":[1,null,{"id":2},{"id":"a"},"x"]}"#), Some(vec![entry("a", None)]));
    }

    #[test]
    fn null_is_an_empty_list_and_nothing_else_is() {
        assert_eq!(read(r#"{"entries":null}"#), Some(vec![]));
        assert_eq!(read(r#"{"entries":{}}"#), None);
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn a_list_is_read_up_to_its_bound() {
        let entries = vec![r#"{"id":"a"}"#; MOST_ENTRIES + 1].join(",");
        assert_eq!(read(&format!(r#"{{"entries":[{entries}]}}"#)).unwrap().len(), MOST_ENTRIES);
    }
}
