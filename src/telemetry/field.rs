//! The fields of a log line: names and typed values, written as `name=value` or as members of a JSON object.

use std::fmt::{self, Display};

use log::kv::{Error, Key, Source, ToValue, Value, VisitSource};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::messages::ids::{CoordinatorId, Generation};
use crate::messages::untrusted::Untrusted;

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// A count, or a time in the unit that the name gives.
    Number(u64),
    /// Text, which may be untrusted: it is escaped where it is shown.
    Text(String),
}

impl ToValue for Field {
    fn to_value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_str()),
        }
    }
}

/// The fields of one event, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(&'static str, Field)>);

impl Fields {
    /// No fields.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The same with a number.
    pub(crate) fn number(mut self, name: &'static str, number: impl TryInto<u64>) -> Self {
        self.0.push((name, Field::Number(number.try_into().unwrap_or(u64::MAX))));
        self
    }

    /// The same with a text.
    pub(crate) fn text(mut self, name: &'static str, text: impl Display) -> Self {
        self.0.push((name, Field::Text(text.to_string())));
        self
    }

    /// The same with a text, if there is one.
    pub(crate) fn text_if(self, name: &'static str, text: Option<impl Display>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// The same with a connection: its number, and its coordinator as in [`Self::coordinator`].
    pub(crate) fn connection(self, generation: Generation) -> Self {
        self.number("generation", generation.number).coordinator(generation)
    }

    /// The same with the place of a connection's coordinator in the configured list, from 1, unless it is the first.
    pub(crate) fn coordinator(self, generation: Generation) -> Self {
        let CoordinatorId(place) = generation.coordinator;
        if generation.coordinator == CoordinatorId::FIRST { self } else { self.number("coordinator", place + 1) }
    }

    /// The value of a field.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, field)| field)
    }

    /// The names of the fields.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

impl Source for Fields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        self.0.iter().try_for_each(|(name, field)| visitor.visit_pair(Key::from_str(name), field.to_value()))
    }
}

/// Shows the fields of a record as text: ` name=value` for each.
pub(super) struct AsText<'a>(pub(super) &'a dyn Source);

impl Display for AsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Pairs<'a, 'b>(&'a mut fmt::Formatter<'b>);

        impl<'kvs> VisitSource<'kvs> for Pairs<'_, '_> {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
                let text = value.to_string();
                let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.:/@[],+".contains(c);
                let (name, shown) = (key.as_str(), Untrusted(&text));
                if !text.is_empty() && text.chars().all(is_word) {
                    write!(self.0, " {name}={shown}")?;
                } else {
                    write!(self.0, " {name}=\"{shown}\"")?;
                }
                Ok(())
            }
        }

        self.0.visit(&mut Pairs(f)).map_err(|_| fmt::Error)
    }
}

/// Adds the fields of a record to a JSON object.
pub(super) fn add_to_map<S: SerializeMap>(map: &mut S, source: &dyn Source) -> Result<(), S::Error> {
    struct Members<'a, S: SerializeMap>(&'a mut S, Result<(), S::Error>);

    impl<'kvs, S: SerializeMap> VisitSource<'kvs> for Members<'_, S> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
            if self.1.is_ok() {
                self.1 = self.0.serialize_entry(key.as_str(), &Json(value));
            }
            Ok(())
        }
    }

    let mut members = Members(map, Ok(()));
    // The visitor itself never fails.
    let _ = source.visit(&mut members);
    members.1
}

struct Json<'a>(Value<'a>);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(number) = self.0.to_u64() {
            serializer.serialize_u64(number)
        } else if let Some(number) = self.0.to_i64() {
            serializer.serialize_i64(number)
        } else if let Some(is) = self.0.to_bool() {
            serializer.serialize_bool(is)
        } else if let Some(number) = self.0.to_f64() {
            serializer.serialize_f64(number)
        } else {
            serializer.collect_str(&Untrusted::shortened(&self.0.to_string()))
        }
    }
}
