//! Chat completions and completions of a text: the whole object, and the events of a stream, which have the same form.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::core::json::{Few, word};

/// The most choices of one response.
pub(crate) const MAX_CHOICES: usize = 128;

/// A completion, or one event of its stream. `C` is a choice of it. Without choices it is written with null.
#[derive(Deserialize, Serialize)]
pub(crate) struct Completion<'a, V, C> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<V>,
    #[serde(borrow, default, deserialize_with = "word")]
    pub(crate) object: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_fingerprint: Option<V>,
    pub(crate) choices: Option<Few<C, MAX_CHOICES>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<V>,
    /// llama.cpp's own figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timings: Option<V>,
}

/// What a completion, one event of it, or a response with embeddings reports about itself.
///
/// Declared apart from [`Completion`] because every response is scanned for it: with servers that send `usage` in each
/// event, each event. It reads no other member, so it is as fast as it can be, and a member of an unexpected type or a text
/// that is not UTF-8 hides no usage.
#[derive(Deserialize)]
pub(crate) struct CompletionReport<'a> {
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "word")]
    pub(crate) object: &'a str,
    #[serde(borrow)]
    pub(crate) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) timings: Option<&'a RawValue>,
}

/// A choice of a completion of a text. `L` is the JSON of its logprobs, which are written as null where there are none.
#[derive(Deserialize, Serialize)]
pub(crate) struct TextChoice<V, L = V> {
    pub(crate) text: Option<V>,
    pub(crate) index: Option<u64>,
    pub(crate) logprobs: Option<L>,
    /// Written as null where there is none.
    pub(crate) finish_reason: Option<V>,
}

/// The logprobs of a choice: parallel lists with one element for each token. Completions of a text have the first four, chat
/// completions the last two. Some servers have the lists of one in the other.
#[derive(Deserialize, Serialize)]
pub(crate) struct Logprobs<V> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_logprobs: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_logprobs: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text_offset: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refusal: Option<V>,
}
