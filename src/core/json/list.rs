//! Lists: of objects, read up to a bound, and of any values, read one after another.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::value::Object;

/// A list of objects, of which at most `N` are kept while it is read.
pub(crate) struct Few<T, const N: usize> {
    kept: Vec<T>,
    overflown: bool,
}

impl<T, const N: usize> Few<T, N> {
    /// A list that is written.
    pub(crate) fn of(elements: Vec<T>) -> Self {
        Self { kept: elements, overflown: false }
    }

    /// Whether it has no elements.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The elements. `None` if there are too many.
    pub(crate) fn into_vec(self) -> Option<Vec<T>> {
        (!self.overflown).then_some(self.kept)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Few<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

impl<T: Serialize, const N: usize> Serialize for Few<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.kept.serialize(serializer)
    }
}

struct FewVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for FewVisitor<T, N> {
    type Value = Few<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut few = Few { kept: Vec::new(), overflown: false };
        while few.kept.len() < N {
            match seq.next_element()? {
                Some(Object(element)) => few.kept.push(element),
                None => return Ok(few),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            few.overflown = true;
        }
        Ok(few)
    }
}

/// Calls `on_element` with each element of a list, up to its first error. Returns `not_a_list` if it is not a list.
pub(crate) fn each<'a, E>(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, serde::Serialize)]
    struct Item {
        n: u64,
    }

    fn few(json: &str) -> Option<Few<Item, 2>> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn a_list_of_objects_is_read_up_to_its_bound() {
        let read =
            |json| few(json).map(|few| few.into_vec().map(|items| items.iter().map(|it| it.n).collect::<Vec<_>>()));
        assert_eq!(read("[]"), Some(Some(vec![])));
        assert_eq!(read(r#"[{"n":1}, {"n":2}]"#), Some(Some(vec![1, 2])));
        assert_eq!(read(r#"[{"n":1},{"n":2},3]"#), Some(None));
        for json in ["{}", "7", "[[1]]", "[7]", r#"[{"n":1}"#] {
            assert_eq!(read(json), None, "{json}");
        }
        assert_eq!(serde_json::to_string(&Few::<_, 2>::of(vec![Item { n: 3 }])).unwrap(), r#"[{"n":3}]"#);
        assert!(few("[]").unwrap().is_empty());
    }

    #[test]
    fn each_element_is_seen_up_to_the_first_error() {
        let seen = |json: &'static str| {
            let mut seen = Vec::new();
            let list = serde_json::from_str::<&RawValue>(json).unwrap();
            let result = each(list, "not a list", |element| {
                seen.push(element.get());
                if element.get() == "0" { Err("a zero") } else { Ok(()) }
            });
            (result, seen)
        };
        assert_eq!(seen("[1, [2],0,3]"), (Err("a zero"), vec!["1", "[2]", "0"]));
        assert_eq!(seen(r#"["a"]"#), (Ok(()), vec![r#""a""#]));
        assert_eq!(seen("{}"), (Err("not a list"), vec![]));
    }
}
