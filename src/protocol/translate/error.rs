//! Errors of a backend in the shape of Anthropic's.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::protocol::usage::{ERROR_BODY_LIMIT, object, parse};

/// Characters of a message that are passed on.
const MESSAGE_LIMIT: usize = 2_000;

/// The body of a response of this status, for a client of Anthropic's API.
///
/// The message is the backend's, bounded: of OpenAI's error object, a bare one, FastAPI's `detail`, or a body of plain
/// text. Where there is none, such as in a page for a browser, the status is named instead. So the texts of this crate's
/// own errors can be given as bodies too.
pub fn error_body(status: u16, body: &[u8]) -> Vec<u8> {
    let message = message_of(body).unwrap_or_else(|| Cow::Owned(format!("the model's server answered {status}")));
    envelope(kind_of(status), &message)
}

/// The error that an event of a chat completions stream reports. Some servers give it the status that the response
/// would have had.
pub(super) fn event_error(data: &[u8]) -> Vec<u8> {
    let status = object::<ErrorBody<'_>>(data).and_then(|body| body.inner().unwrap_or(body).status());
    let message = message_of(data).unwrap_or(Cow::Borrowed("the model's server reported an error"));
    envelope(status.map_or("api_error", kind_of), &message)
}

/// An error body.
pub(super) fn envelope(kind: &str, message: &str) -> Vec<u8> {
    let end = message.char_indices().nth(MESSAGE_LIMIT).map_or(message.len(), |(end, _)| end);
    let message = message.get(..end).unwrap_or_default();
    let envelope = Envelope { kind: "error", error: Detail { kind, message } };
    serde_json::to_vec(&envelope).unwrap_or_default()
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

fn message_of(body: &[u8]) -> Option<Cow<'_, str>> {
    if body.len() > ERROR_BODY_LIMIT {
        return None;
    }
    if let Some(body) = object::<ErrorBody<'_>>(body) {
        return body.message();
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    (!text.is_empty() && !text.starts_with(['{', '[', '<', '"'])).then_some(Cow::Borrowed(text))
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// What FastAPI calls the message in a list of what is wrong with the request.
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

impl<'a> ErrorBody<'a> {
    /// The object that a wrapper holds.
    fn inner(&self) -> Option<Self> {
        let list = self.detail.and_then(|detail| serde_json::from_str::<Vec<&RawValue>>(detail.get()).ok());
        let first = list.and_then(|faults| faults.first().copied());
        parse(self.error.or(first).or(self.detail))
    }

    /// Of at most three wrappers: a `detail` may hold an `error`.
    fn message(&self) -> Option<Cow<'a, str>> {
        let inner = self.inner();
        let innermost = inner.as_ref().and_then(Self::inner);
        let texts = [
            innermost.and_then(|body| body.own_message()),
            inner.and_then(|body| body.own_message()),
            decoded(self.error),
            decoded(self.detail),
            self.own_message(),
        ];
        texts.into_iter().flatten().find(|text| !text.trim().is_empty())
    }

    fn own_message(&self) -> Option<Cow<'a, str>> {
        decoded(self.message).or_else(|| decoded(self.msg))
    }

    fn status(&self) -> Option<u16> {
        self.code?.get().trim_matches('"').parse().ok()
    }
}

fn decoded<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    serde_json::from_str::<String>(value?.get()).ok().map(Cow::Owned)
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
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
    fn the_message_is_the_backends() {
        for body in [
            r#"{"error":{"code":400,"message":"no \"x\"","type":"invalid_request_error"}}"#,
            r#"{"type":"error","error":{"type":"api_error","message":"no \"x\""}}"#,
            r#"{"error":"no \"x\""}"#,
            r#"{"object":"error","message":"no \"x\"","code":40001}"#,
            r#"{"detail":"no \"x\""}"#,
            r#"{"detail":[{"loc":["body"],"msg":"no \"x\""},{"msg":"y"}]}"#,
            r#"{"detail":{"error":{"message":"no \"x\""}}}"#,
            " no \"x\"\n",
        ] {
            assert_eq!(translated(400, body).1, "no \"x\"", "{body}");
        }
    }

    #[test]
    fn a_body_without_a_message_is_named_by_its_status() {
        for body in [
            "",
            " ",
            "{}",
            "[1]",
            "<html>no</html>",
            r#"{"error":{}}"#,
            r#"{"error":7}"#,
            r#"{"error":""}"#,
            "{\"error\"",
        ] {
            assert_eq!(translated(502, body).1, "the model's server answered 502", "{body}");
        }
        assert_eq!(translated(502, &"x".repeat(ERROR_BODY_LIMIT + 1)).1, "the model's server answered 502");
        let no_text: serde_json::Value = serde_json::from_slice(&error_body(500, b"\xff\xfe")).unwrap();
        assert_eq!(no_text["error"]["message"], "the model's server answered 500");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(translated(400, &"é".repeat(MESSAGE_LIMIT + 1)).1, "é".repeat(MESSAGE_LIMIT));
    }
}
