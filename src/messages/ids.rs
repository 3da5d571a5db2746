//! Names of things, one type each, so that a model can't be mistaken for a backend.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A job's id: a UUID in its usual hyphenated form. The text is kept as the coordinator wrote it, because it may compare
/// strings. Ids that differ only in the case of letters are equal, because they are the same UUID.
#[derive(Clone, Copy)]
pub struct JobId([u8; 36]);

impl JobId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self::from(Uuid::new_v4())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // The text is that of a UUID, which is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as a UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid::try_parse(self.as_str()).unwrap_or_default()
    }

    /// The letters in lower case, eight to a number: ids are compared and hashed for each frame.
    fn in_lower_case(&self) -> [u64; 5] {
        // Of the characters of a UUID only the capitals do not have this bit.
        const LOWER_CASE: u64 = 0x2020_2020_2020_2020;
        let mut text = [0; 40];
        text[..36].copy_from_slice(&self.0);
        let (words, _) = text.as_chunks::<8>();
        std::array::from_fn(|at| u64::from_be_bytes(words[at]) | LOWER_CASE)
    }
}

impl PartialEq for JobId {
    fn eq(&self, other: &Self) -> bool {
        self.in_lower_case() == other.in_lower_case()
    }
}

impl Eq for JobId {}

impl Hash for JobId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.in_lower_case().hash(state);
    }
}

impl PartialOrd for JobId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for JobId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.in_lower_case().cmp(&other.in_lower_case())
    }
}

impl From<Uuid> for JobId {
    fn from(uuid: Uuid) -> Self {
        let mut text = [0; 36];
        uuid.hyphenated().encode_lower(&mut text);
        Self(text)
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID in the form `8-4-4-4-12`.
    #[error("not a UUID")]
    NotAUuid,
    /// Not 1 to 128 characters of letters, digits, `.`, `_`, `:` and `-`.
    #[error("not 1 to 128 characters of letters, digits, '.', '_', ':' and '-'")]
    NotAToken,
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; 36] = text.as_bytes().try_into().map_err(|_| IdError::NotAUuid)?;
        Uuid::try_parse(text).map_err(|_| IdError::NotAUuid)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The token as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
                if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError::NotAToken)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token! {
    /// The id that the coordinator assigned to this agent: 1 to 128 letters, digits, `.`, `_`, `:` and `-`.
    ProviderId
}
token! {
    /// The name that a coordinator gave to a session: 1 to 128 letters, digits, `.`, `_`, `:` and `-`.
    SessionName
}

impl SessionName {
    /// The name of these bits: 32 hex digits.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The id of a model, as its backend spells it.
    ModelId
}
name! {
    /// A backend's name: that of the configuration, or else that of its kind.
    BackendId
}

/// A coordinator of this agent, by its place in the configured list, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CoordinatorId(pub u16);

impl CoordinatorId {
    /// The first in the list.
    pub const FIRST: Self = Self(0);
}

/// A connection: its number, which counts the connections of a process from 1, and its coordinator. What belongs to a
/// connection carries its generation; what arrives with an old one is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// Whose it is.
    pub coordinator: CoordinatorId,
}

impl Generation {
    /// The connection with this number to the first coordinator.
    pub const fn numbered(number: u64) -> Self {
        Self { number, coordinator: CoordinatorId::FIRST }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// A session is what outlives a connection: the jobs between this agent and one coordinator. Without the extension `resume`
/// each connection has its own. It is named after its first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Generation);

impl SessionId {
    /// Whose it is.
    pub fn coordinator(self) -> CoordinatorId {
        self.0.coordinator
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    #[test]
    fn job_ids_that_differ_only_in_case_are_one_job_and_keep_their_letters() {
        let lower: JobId = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10".parse().unwrap();
        let upper: JobId = "6F1C3F0E-5F0B-4F43-9C7E-0D6F5F8F6F10".parse().unwrap();
        assert_eq!(lower, upper);
        assert_eq!(HashSet::from([lower, upper, JobId::from(lower.uuid())]).len(), 1);
        assert_eq!(BTreeSet::from([lower, upper]).len(), 1);
        assert_ne!(lower.as_str(), upper.as_str());
        assert_ne!(lower, JobId::random());
    }
}
