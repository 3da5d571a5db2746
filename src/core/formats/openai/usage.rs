//! The figures of a completion. A figure that is not a count is one that is not reported.

use serde::{Deserialize, Serialize};

use crate::core::json::count;

/// The usage of a completion, a chat completion or a request for embeddings. Cached tokens are included. `V` is the JSON of
/// the members that no response is scanned for.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(crate) struct Usage<V> {
    #[serde(default, deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub(crate) completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_tokens: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_tokens_details: Option<V>,
}

/// More about the tokens of a prompt.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct PromptDetails {
    /// Those of them that were read from a cache.
    #[serde(default, deserialize_with = "count")]
    pub(crate) cached_tokens: Option<u64>,
}

/// llama.cpp's own figures, which it sends whether or not usage is requested.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Timings {
    /// Tokens of the prompt that were read from the cache.
    #[serde(default, deserialize_with = "count")]
    pub(crate) cache_n: Option<u64>,
    /// The other tokens of the prompt.
    #[serde(default, deserialize_with = "count")]
    pub(crate) prompt_n: Option<u64>,
    /// Generated tokens.
    #[serde(default, deserialize_with = "count")]
    pub(crate) predicted_n: Option<u64>,
}
