//! Extensions of the base protocol: the coordinator offers names, the agent responds with those that it will use.
//!
//! Unknown names are skipped when a set is read, so a set that a peer sent contains only what both sides know.

use std::fmt;

use serde::de::{Error as _, SeqAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lenient::{self, FieldValue};

/// An extension of the base protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Extension {
    /// Chunks travel as binary frames.
    Binary = 1,
    /// Jobs name the API path and the form of the response, offers the paths of each model, and the first chunk the status.
    Endpoints = 1 << 1,
    /// Capabilities report the largest frame that the agent takes.
    Sizes = 1 << 2,
    /// The agent announces that it is being stopped.
    Drain = 1 << 3,
    /// The coordinator announces that it will close the connection, and the agent changes to a new one without a gap.
    Handover = 1 << 4,
    /// Jobs outlive their connection: the agent keeps what the coordinator has not acknowledged.
    Resume = 1 << 5,
    /// The signature covers a statement that names the coordinator.
    Auth2 = 1 << 6,
}

impl Extension {
    /// Every extension.
    pub const ALL: [Self; 7] =
        [Self::Binary, Self::Endpoints, Self::Sizes, Self::Drain, Self::Handover, Self::Resume, Self::Auth2];

    /// The name as the wire spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Endpoints => "endpoints",
            Self::Sizes => "sizes",
            Self::Drain => "drain",
            Self::Handover => "handover",
            Self::Resume => "resume",
            Self::Auth2 => "auth2",
        }
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions(u8);

impl Extensions {
    /// No extensions: the base protocol.
    pub const NONE: Self = Self(0);

    /// All extensions of this version.
    pub fn all() -> Self {
        Extension::ALL.into_iter().collect()
    }

    /// All but `resume`: jobs end with their connection, as in the base protocol.
    #[cfg(any(test, fuzzing, feature = "testkit"))]
    pub fn without_resume() -> Self {
        Self::all().without(Extension::Resume)
    }

    /// Whether it is one of them.
    pub fn contains(self, extension: Extension) -> bool {
        self.0 & extension as u8 != 0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Those that are in both sets.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of them that are not this one.
    #[must_use]
    pub fn without(self, extension: Extension) -> Self {
        Self(self.0 & !(extension as u8))
    }

    /// Each of them, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        Extension::ALL.into_iter().filter(move |extension| self.contains(*extension))
    }

    /// These and the one with this name, if there is one.
    fn with_name(self, name: &str) -> Self {
        let named = Extension::ALL.into_iter().find(|extension| extension.as_str() == name);
        Self(self.0 | named.map_or(0, |extension| extension as u8))
    }

    /// Reads a field of any type: a value that is not a list of texts is the empty set.
    pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(lenient::field(deserializer)?.unwrap_or(Self::NONE))
    }
}

impl FieldValue for Extensions {
    fn of_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        lenient::texts(list, Self::NONE, |extensions, name| extensions.with_name(name))
    }
}

impl FromIterator<Extension> for Extensions {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        Self(extensions.into_iter().fold(0, |bits, extension| bits | extension as u8))
    }
}

/// The names, separated by commas; `none` without any.
impl fmt::Display for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, extension) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            f.write_str(extension.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({self})")
    }
}

impl Serialize for Extensions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Extension::as_str))
    }
}

/// A list of texts, in constant memory however long it is.
impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        lenient::field(deserializer)?.ok_or_else(|| D::Error::custom("not a list of names"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Peer {
        #[serde(default, deserialize_with = "Extensions::lenient")]
        extensions: Extensions,
    }

    #[test]
    fn only_a_list_of_texts_names_extensions() {
        let binary: Extensions = [Extension::Binary].into_iter().collect();
        for (given, want) in [
            (r#"["binary"]"#, binary),
            (r#"["weather","binary","binary"]"#, binary),
            (r#"["bin\u0061ry"]"#, binary),
            ("[]", Extensions::NONE),
            (r#"["Binary","binary ",""]"#, Extensions::NONE),
            (r#"["binary",7]"#, Extensions::NONE),
            (r#"[["binary"]]"#, Extensions::NONE),
            (r#""binary""#, Extensions::NONE),
            (r#"{"binary":true}"#, Extensions::NONE),
            ("true", Extensions::NONE),
            ("null", Extensions::NONE),
            ("-1.5", Extensions::NONE),
        ] {
            assert_eq!(serde_json::from_str::<Extensions>(given).unwrap_or_default(), want, "{given}");
            let field = format!(r#"{{"extensions":{given}}}"#);
            assert_eq!(serde_json::from_str::<Peer>(&field).unwrap(), Peer { extensions: want }, "{given}");
        }
        assert_eq!(serde_json::from_str::<Peer>("{}").unwrap().extensions, Extensions::NONE);
    }

    #[test]
    fn a_set_reads_back_as_it_was_written() {
        let each = Extension::ALL.map(|extension| Extensions::from_iter([extension]));
        for set in [Extensions::NONE, Extensions::all()].into_iter().chain(each) {
            let text = serde_json::to_string(&set).unwrap();
            assert_eq!(serde_json::from_str::<Extensions>(&text).unwrap(), set);
        }
        let names = ["binary", "endpoints", "sizes", "drain", "handover", "resume", "auth2"];
        assert_eq!(serde_json::to_value(Extensions::all()).unwrap(), serde_json::json!(names));
        let shown = (Extensions::all().to_string(), Extensions::NONE.to_string());
        assert_eq!(shown, (names.join(","), "none".into()));
    }

    #[test]
    fn what_is_agreed_is_in_both_sets() {
        let all = Extensions::all();
        assert_eq!(all.common(Extensions::NONE), Extensions::NONE);
        assert_eq!(all.common(all), all);
        assert!(all.contains(Extension::Binary) && !Extensions::NONE.contains(Extension::Binary));
        let rest = all.without(Extension::Binary);
        assert!(!rest.contains(Extension::Binary) && rest.without(Extension::Binary) == rest);
        assert_eq!(rest.iter().count() + 1, Extension::ALL.len());
    }
}
