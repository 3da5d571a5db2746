//! The shapes of Anthropic's API that the coordinator makes itself: errors.

use serde::Serialize;

use super::fault::Fault;

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
/// Spent capacity is `rate_limit_error` with 429, as in the other API, and not `overloaded_error` with 529: proxies
/// know the former.
pub(super) fn error(fault: Fault, message: &str) -> String {
    let kind = match fault {
        Fault::Key => "authentication_error",
        Fault::Endpoint | Fault::Model => "not_found_error",
        Fault::Size => "request_too_large",
        Fault::Request => "invalid_request_error",
        Fault::Capacity => "rate_limit_error",
        Fault::Stopping | Fault::Upstream => "api_error",
        Fault::Timeout => "timeout_error",
    };
    serde_json::to_string(&Envelope { kind: "error", error: Detail { kind, message } }).unwrap_or_default()
}
