//! A backend's refusal of a request, for the client that sent it: the backend's status, and the backend's error body if that
//! has the shape of the client's API. Otherwise the error message is put into that shape.

use super::{anthropic, openai};
use crate::core::formats;
use crate::core::formats::error_body::ErrorBody;
use crate::messages::backend::Format;
use crate::messages::wire::{ErrorCode, ResponseHead};

/// The most bytes of an error body that are kept.
pub(crate) const MAX_REFUSAL: usize = 64 << 10;

/// A backend's error response that blames the request. `Debug` omits the body, which may quote a prompt.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BackendRefusal {
    /// The agent's error code for it.
    pub(crate) code: ErrorCode,
    status: u16,
    body: Vec<u8>,
}

impl std::fmt::Debug for BackendRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendRefusal({}, {} bytes)", self.status, self.body.len())
    }
}

impl BackendRefusal {
    /// `None` unless the status blames the request. A backend that refuses a key does not mean the client's key.
    pub(crate) fn of(head: &ResponseHead, body: Vec<u8>, code: ErrorCode) -> Option<Self> {
        let status = head.status();
        let of_the_request = (400..500).contains(&status) && !matches!(status, 401 | 403 | 407);
        of_the_request.then_some(Self { code, status, body })
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether the request itself is at fault. A limit of the operator's key at the backend (429) is not the request's fault.
    pub(crate) fn blames_request(&self) -> bool {
        self.status != 429
    }

    /// The body in the shape of this API.
    pub(crate) fn body(&self, format: Format) -> Vec<u8> {
        let is_in_shape = match format {
            Format::OpenAi => formats::openai::ErrorBody::is_one(&self.body),
            Format::Anthropic => formats::anthropic::ErrorBody::is_one(&self.body),
        };
        if is_in_shape {
            return self.body.clone();
        }
        let message = ErrorBody::read(&self.body).message();
        let message = message.unwrap_or_else(|| format!("the backend answered {}", self.status));
        let wrapped = match format {
            Format::OpenAi => openai::refusal(self.status, &message),
            Format::Anthropic => anthropic::refusal(self.status, &message),
        };
        wrapped.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::formats::error_body::MESSAGE_LIMIT;

    fn refusal(status: u16, body: &str) -> Option<BackendRefusal> {
        BackendRefusal::of(&ResponseHead::new(status, ""), body.into(), ErrorCode::Internal)
    }

    fn shaped(body: &str, format: Format) -> String {
        String::from_utf8(refusal(400, body).unwrap().body(format)).unwrap()
    }

    #[test]
    fn only_a_status_that_blames_the_request_is_a_refusal() {
        for status in [400, 404, 408, 413, 422, 429, 451] {
            assert_eq!(refusal(status, "{}").map(|refusal| refusal.status()), Some(status));
        }
        for status in [200, 302, 401, 403, 407, 500, 501, 503, 529] {
            assert_eq!(refusal(status, "{}"), None, "{status}");
        }
    }

    #[test]
    fn a_body_in_the_shape_of_the_api_is_passed_on_unchanged() {
        let openai = r#"{"error": {"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":8}}"#;
        assert_eq!(shaped(openai, Format::OpenAi), openai);
        let anthropic =
            r#"{"type":"error", "error":{"type":"invalid_request_error","message":"no"},"request_id":null}"#;
        assert_eq!(shaped(anthropic, Format::Anthropic), anthropic);
    }

    #[test]
    fn the_message_of_any_other_body_is_put_into_the_shape_of_the_api() {
        for body in [
            r#"{"error":{"message":"too long","type":7}}"#,
            r#"{"error":"too long"}"#,
            r#"{"object":"error","message":"too long","code":400}"#,
            r#"{"detail":"too long"}"#,
            r#"{"detail":{"error":"too long"}}"#,
            r#"{"detail":[{"loc":["body"],"msg":"too long"}]}"#,
            "too long",
        ] {
            let want = r#"{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}"#;
            assert_eq!(shaped(body, Format::Anthropic), want, "{body}");
        }
        let want = r#"{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":null}}"#;
        assert_eq!(shaped(r#"{"error":"too long"}"#, Format::OpenAi), want);
        for body in ["", "<html>", "[]", r#"{"error":{"message":""}}"#] {
            assert!(shaped(body, Format::Anthropic).contains("the backend answered 400"), "{body}");
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let body = shaped(&format!(r#"{{"error":"{}\u0000"}}"#, "x".repeat(9000)), Format::OpenAi);
        assert!(body.len() < MESSAGE_LIMIT + 200);
    }
}
