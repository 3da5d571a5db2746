//! The bodies of Anthropic's API that the coordinator makes itself: errors.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error_kind::ApiErrorKind;
use super::json_object::read_object;

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

/// An error body.
///
/// A lack of capacity is `rate_limit_error` with 429, as in the other API, and not `overloaded_error` with 529, because more
/// proxies know 429.
pub(crate) fn error(kind: ApiErrorKind, message: &str) -> String {
    let word = match kind {
        ApiErrorKind::Key => "authentication_error",
        ApiErrorKind::Endpoint | ApiErrorKind::Model | ApiErrorKind::Path => "not_found_error",
        ApiErrorKind::Size => "request_too_large",
        ApiErrorKind::Request | ApiErrorKind::MediaType => "invalid_request_error",
        ApiErrorKind::Forbidden => "permission_error",
        ApiErrorKind::Capacity => "rate_limit_error",
        ApiErrorKind::Overloaded => "overloaded_error",
        ApiErrorKind::Stopping | ApiErrorKind::Upstream => "api_error",
        ApiErrorKind::Timeout => "timeout_error",
    };
    envelope(word, message)
}

/// An error body for a backend that refused a request with this status.
pub(crate) fn refusal(status: u16, message: &str) -> String {
    let kind = match status {
        404 => "not_found_error",
        408 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        _ => "invalid_request_error",
    };
    envelope(kind, message)
}

fn envelope(kind: &'static str, message: &str) -> String {
    serde_json::to_string(&Envelope { kind: "error", error: Detail { kind, message } }).unwrap_or_default()
}

/// Whether a body is an error in the shape that this API's clients read.
pub(crate) fn is_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, rename = "type")]
        kind: &'a RawValue,
        #[serde(borrow)]
        error: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "type")]
        _kind: String,
        #[serde(rename = "message")]
        _message: String,
    }
    read_object::<Shape<'_>>(body).is_some_and(|shape| {
        shape.kind.get() == "\"error\"" && read_object::<Error>(shape.error.get().as_bytes()).is_some()
    })
}
