//! The body of an error: written for the client, or passed on if it has the form that Anthropic's clients read. All other
//! forms that servers use are read by `error_body`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::core::json::{Object, object, word};

/// An error body.
#[derive(Deserialize, Serialize)]
pub(crate) struct ErrorBody<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    object: &'a str,
    #[serde(borrow)]
    error: Object<Error<'a>>,
}

#[derive(Deserialize, Serialize)]
struct Error<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl<'a> ErrorBody<'a> {
    /// `kind` is the member `type` of the error.
    pub(crate) fn new(kind: &'a str, message: impl Into<Cow<'a, str>>) -> Self {
        Self { object: "error", error: Object(Error { kind: kind.into(), message: message.into() }) }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> String {
        // Plain data with string keys always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether this is an error body: one that says so, with a type and a message.
    pub(crate) fn is_one(body: &[u8]) -> bool {
        object::<ErrorBody<'_>>(body).is_some_and(|body| body.object == "error")
    }
}
