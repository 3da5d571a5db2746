//! OpenAI's responses: as much of them as is read. The rest of a response passes through unchanged.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::json::{count, word};

/// An event of the stream of a response.
#[derive(Deserialize)]
pub(crate) struct ResponseEvent<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
    /// The response as it is then: in the last event, the whole of it.
    #[serde(borrow)]
    pub(crate) response: Option<&'a RawValue>,
}

/// A response.
#[derive(Deserialize)]
pub(crate) struct Response<'a> {
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "word")]
    pub(crate) status: &'a str,
    #[serde(borrow)]
    pub(crate) usage: Option<&'a RawValue>,
}

/// The usage of a response. Cached tokens are included. A figure that is not a count is one that is not reported.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct ResponseUsage<'a> {
    #[serde(default, deserialize_with = "count")]
    pub(crate) input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub(crate) output_tokens: Option<u64>,
    #[serde(borrow)]
    pub(crate) input_tokens_details: Option<&'a RawValue>,
}
