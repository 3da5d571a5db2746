//! A message: the whole response, and the start of one in a stream.

use serde::{Deserialize, Serialize};

use crate::core::json::{count, word};

/// The most content blocks of one message.
pub(crate) const MAX_BLOCKS: usize = 256;

/// A message. `L` is the list of its content blocks, `U` is its usage; null is written where one is missing, and so it is for
/// why the message stopped.
#[derive(Deserialize, Serialize)]
pub(crate) struct Message<'a, V, L, U> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<V>,
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<V>,
    pub(crate) content: Option<L>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<V>,
    pub(crate) stop_reason: Option<V>,
    pub(crate) stop_sequence: Option<V>,
    pub(crate) usage: Option<U>,
}

/// The usage of a message. The three counts of the prompt's tokens exclude each other. A figure that is not a count is one
/// that is not reported.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
pub(crate) struct Usage {
    #[serde(default, deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub(crate) input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub(crate) cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub(crate) cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub(crate) output_tokens: Option<u64>,
}
