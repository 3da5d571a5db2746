//! The API paths that jobs request, and the form of the response.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::backend::Format;

/// An API path that a job can request and a model can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Endpoint {
    /// OpenAI's chat completions, `/v1/chat/completions`.
    #[default]
    ChatCompletions = 1,
    /// OpenAI's completions of a text, `/v1/completions`.
    Completions = 1 << 1,
    /// `/v1/embeddings`.
    Embeddings = 1 << 2,
    /// OpenAI's responses, `/v1/responses`.
    Responses = 1 << 3,
    /// Anthropic's messages, `/v1/messages`.
    Messages = 1 << 4,
}

impl Endpoint {
    /// Every endpoint, in the order in which they are listed.
    pub const ALL: [Self; 5] =
        [Self::ChatCompletions, Self::Completions, Self::Embeddings, Self::Responses, Self::Messages];

    /// The path as the wire and HTTP spell it.
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// The endpoint of a path.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// The family of shapes that its requests, answers and errors belong to.
    pub fn format(self) -> Format {
        match self {
            Self::Messages => Format::Anthropic,
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Responses => Format::OpenAi,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// The form of a job's response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AnswerForm {
    /// As an event stream. Also what the base protocol means.
    #[default]
    Stream,
    /// As one JSON body.
    Whole,
}

/// A set of endpoints. On the wire: the list of their paths.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Endpoints(u8);

impl Endpoints {
    /// None.
    pub const NONE: Self = Self(0);
    /// Chat completions only, which every inference server has.
    pub const CHAT: Self = Self(Endpoint::ChatCompletions as u8);
    /// Those that have a format in the base protocol.
    pub const BASE: Self = Self(Endpoint::ChatCompletions as u8 | Endpoint::Messages as u8);

    /// Whether it is one of them.
    pub fn contains(self, endpoint: Endpoint) -> bool {
        self.0 & endpoint as u8 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, endpoint: Endpoint) -> Self {
        Self(self.0 | endpoint as u8)
    }

    /// These without one.
    #[must_use]
    pub fn without(self, endpoint: Endpoint) -> Self {
        Self(self.0 & !(endpoint as u8))
    }

    /// Those that are in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both sets.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Each of them, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Endpoint> {
        Endpoint::ALL.into_iter().filter(move |endpoint| self.contains(*endpoint))
    }
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Self {
        endpoints.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Endpoint::path)).finish()
    }
}

impl Serialize for Endpoints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Endpoint::path))
    }
}

/// A list of texts, in constant memory however long it is. Unknown paths are skipped.
impl<'de> Deserialize<'de> for Endpoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Endpoints;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of paths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Endpoints, A::Error> {
        let mut endpoints = Endpoints::NONE;
        while let Some(path) = list.next_element::<std::borrow::Cow<'de, str>>()? {
            endpoints = Endpoint::of_path(&path).map_or(endpoints, |endpoint| endpoints.with(endpoint));
        }
        Ok(endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_travels_as_the_list_of_its_paths() {
        let set = Endpoints::from_iter([Endpoint::Messages, Endpoint::ChatCompletions]);
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, r#"["/v1/chat/completions","/v1/messages"]"#);
        assert_eq!(serde_json::from_str::<Endpoints>(&text).unwrap(), set);
    }

    #[test]
    fn a_path_that_is_not_known_is_passed_over() {
        let set: Endpoints = serde_json::from_str(r#"["/v1/videos","/v1/embeddings","/v1/embeddings"]"#).unwrap();
        assert_eq!(set, Endpoints::NONE.with(Endpoint::Embeddings));
        assert_eq!(set.without(Endpoint::Embeddings), Endpoints::NONE);
    }
}
