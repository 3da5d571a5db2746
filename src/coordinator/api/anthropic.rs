//! The bodies of Anthropic's API that the coordinator makes itself: errors.

use super::error_kind::ApiErrorKind;
use crate::core::formats::anthropic::ErrorBody;

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
        ApiErrorKind::Unavailable | ApiErrorKind::Stopping | ApiErrorKind::Upstream => "api_error",
        ApiErrorKind::Timeout => "timeout_error",
    };
    ErrorBody::new(word, message).json()
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
    ErrorBody::new(kind, message).json()
}
