//! Converts errors of a backend to the format of Anthropic's.

use crate::core::formats::anthropic;
use crate::core::formats::error_body::ErrorBody;

/// Used if an error of a stream has no message.
const REPORTED: &str = "the model's server reported an error";

/// The body of a response with this status, for a client of Anthropic's API.
///
/// The message is the backend's. If there is none, for example in an HTML page, it names the status instead. The texts of
/// this crate's own errors can be passed as bodies too.
pub(crate) fn error_body(status: u16, body: &[u8]) -> Vec<u8> {
    let message = ErrorBody::read(body).message();
    let message = message.unwrap_or_else(|| format!("the model's server answered {status}"));
    anthropic::ErrorBody::new(kind_of(status), message).json().into_bytes()
}

/// The error that an event of a chat completions stream reports. Some servers include the status that the response would
/// have had.
pub(super) fn event_error(data: &[u8]) -> anthropic::ErrorBody<'static> {
    let error = ErrorBody::read(data);
    let message = error.message().unwrap_or_else(|| REPORTED.to_owned());
    anthropic::ErrorBody::new(error.status().map_or("api_error", kind_of), message)
}

fn kind_of(status: u16) -> &'static str {
    match status {
        400 | 422 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(status: u16, body: &str) -> (String, String) {
        let body: serde_json::Value = serde_json::from_slice(&error_body(status, body.as_bytes())).unwrap();
        assert_eq!(body["type"], "error");
        let text = |member: &str| body["error"][member].as_str().unwrap().to_owned();
        (text("type"), text("message"))
    }

    #[test]
    fn the_type_follows_the_status() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
            (418, "api_error"),
        ] {
            assert_eq!(translated(status, "").0, kind, "{status}");
        }
    }

    #[test]
    fn the_message_is_the_backends_or_names_the_status() {
        assert_eq!(translated(400, r#"{"detail":[{"msg":"no \"x\""}]}"#).1, "no \"x\"");
        assert_eq!(translated(502, "<html>no</html>").1, "the model's server answered 502");
    }
}
