//! The body of an error: written for the client, or passed on if it has the form that OpenAI's clients read. All other forms
//! that servers use are read by `error_body`.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::core::json::{Object, object};

/// An error body. `V` is the JSON of the members that clients can do without.
#[derive(Deserialize, Serialize)]
pub(crate) struct ErrorBody<'a, V> {
    #[serde(borrow)]
    error: Object<Error<'a, V>>,
}

#[derive(Deserialize, Serialize)]
struct Error<'a, V> {
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: Option<V>,
    param: Option<V>,
    code: Option<V>,
}

impl<'a> ErrorBody<'a, &'a str> {
    /// `kind` is the member `type`.
    pub(crate) fn new(kind: &'a str, message: &'a str, param: Option<&'a str>, code: Option<&'a str>) -> Self {
        Self { error: Object(Error { message: message.into(), kind: Some(kind), param, code }) }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> String {
        // Plain data with string keys always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether this is an error body: what clients need of it is a message.
    pub(crate) fn is_one(body: &[u8]) -> bool {
        object::<ErrorBody<'_, IgnoredAny>>(body).is_some()
    }
}
