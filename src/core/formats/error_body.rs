//! The body of an error, in all forms that servers use: OpenAI's `error` object, Anthropic's envelope around one, vLLM's
//! bare object, Ollama's text, FastAPI's `detail` (a text, an object, or a list of errors in the request), and plain text.
//!
//! Agent and coordinator parse error bodies only with this module, so that both find the same in them.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::json::{object, parse, spelling};

/// Longer error bodies, in bytes, are not read.
pub(crate) const ERROR_BODY_LIMIT: usize = 64 << 10;
/// The most characters of a message.
pub(crate) const MESSAGE_LIMIT: usize = 2_000;
/// The most characters of a label.
const LABEL_LIMIT: usize = 64;

/// The content of an error body. It has no `Debug`: its message may quote a prompt.
pub(crate) struct ErrorBody<'a> {
    text: &'a [u8],
    fields: Option<Fields<'a>>,
}

impl<'a> ErrorBody<'a> {
    /// Reads a body. The result is empty for a body of another form, or of more than [`ERROR_BODY_LIMIT`].
    pub(crate) fn read(body: &'a [u8]) -> Self {
        let text = if body.len() > ERROR_BODY_LIMIT { &[] } else { body };
        Self { text, fields: object(text) }
    }

    /// The error's `code` or `type`, if that is a label of 1 to 64 letters, digits, `_`, `.` and `-`, which may be shown to
    /// anyone. A code that is not just a number, else the type, else the number.
    pub(crate) fn label(&self) -> Option<String> {
        let fields = self.fields.as_ref()?;
        if let Some(error) = fields.error {
            return parse::<Fields<'_>>(Some(error))?.label();
        }
        match fields.inner() {
            Some(Fields { error: Some(error), .. }) => parse::<Fields<'_>>(Some(error))?.label(),
            Some(detail) => detail.label(),
            None if fields.detail.is_some() => None,
            None => fields.label(),
        }
    }

    /// The error's message: the innermost one of at most three wrappers, or a body of plain text. Without control
    /// characters except line feeds, and at most [`MESSAGE_LIMIT`] characters. It may quote the prompt.
    pub(crate) fn message(&self) -> Option<String> {
        let message = match &self.fields {
            Some(fields) => fields.message(),
            None => self.plain_text(),
        };
        Some(message?.chars().filter(|c| !c.is_control() || *c == '\n').take(MESSAGE_LIMIT).collect())
    }

    /// The status in the error's own `code`, of servers that report errors within a stream.
    pub(crate) fn status(&self) -> Option<u16> {
        let fields = self.fields.as_ref()?;
        fields.inner().map_or(fields.code, |inner| inner.code)?.get().trim_matches('"').parse().ok()
    }

    /// HTML pages and JSON of other forms are not messages.
    fn plain_text(&self) -> Option<String> {
        let text = std::str::from_utf8(self.text).ok()?.trim();
        (!text.is_empty() && !text.starts_with(['{', '[', '<', '"'])).then(|| text.to_owned())
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// FastAPI's name of the message in a list of errors.
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The object within a wrapper; of a list, the first one.
    fn inner(&self) -> Option<Self> {
        let list = self.detail.and_then(|detail| serde_json::from_str::<Vec<&RawValue>>(detail.get()).ok());
        let first = list.and_then(|faults| faults.first().copied());
        parse(self.error.or(first).or(self.detail))
    }

    fn message(&self) -> Option<String> {
        let inner = self.inner();
        let innermost = inner.as_ref().and_then(Self::inner);
        // A `detail` may contain an `error`, as a text or as an object.
        let within = inner.as_ref().and_then(|inner| text_of(inner.error));
        let texts = [
            innermost.and_then(|fields| fields.own_message()),
            inner.and_then(|fields| fields.own_message()),
            within,
            text_of(self.error),
            text_of(self.detail),
            self.own_message(),
        ];
        texts.into_iter().flatten().find(|text| !text.trim().is_empty())
    }

    fn own_message(&self) -> Option<String> {
        text_of(self.message).or_else(|| text_of(self.msg))
    }

    fn label(&self) -> Option<String> {
        let code = label_of(self.code);
        let is_number = code.as_ref().is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        if is_number { label_of(self.kind).or(code) } else { code.or_else(|| label_of(self.kind)) }
    }
}

fn text_of(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

fn label_of(value: Option<&RawValue>) -> Option<String> {
    let value = value?;
    // Without quotes only a number is a label; `null`, `true`, lists and objects are not.
    let number = Some(value.get()).filter(|text| text.starts_with(|first: char| first.is_ascii_digit()));
    let label = spelling(value).or(number)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    ((1..=LABEL_LIMIT).contains(&label.len()) && label.bytes().all(allowed)).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Option<String> {
        ErrorBody::read(body.as_bytes()).message()
    }

    #[test]
    fn the_message_is_found_in_every_form_that_servers_use() {
        for body in [
            r#"{"error":{"code":400,"message":"no \"x\"","type":"invalid_request_error"}}"#,
            r#"{"type":"error","error":{"type":"api_error","message":"no \"x\""}}"#,
            r#"{"error":"no \"x\""}"#,
            r#"{"object":"error","message":"no \"x\"","code":40001}"#,
            r#"{"detail":"no \"x\""}"#,
            r#"{"detail":[{"loc":["body"],"msg":"no \"x\""},{"msg":"y"}]}"#,
            r#"{"detail":{"error":{"message":"no \"x\""}}}"#,
            r#"{"detail":{"error":"no \"x\""}}"#,
            r#"{"detail":{"message":"no \"x\""}}"#,
            " no \"x\"\n",
        ] {
            assert_eq!(message(body).as_deref(), Some("no \"x\""), "{body}");
        }
    }

    #[test]
    fn a_body_without_a_message_has_none() {
        let long = "x".repeat(ERROR_BODY_LIMIT + 1);
        for body in ["", " ", "{}", "[1]", "<html>no</html>", r#"{"error":{}}"#, r#"{"error":7}"#, "{\"error\"", &long]
        {
            assert_eq!(message(body), None, "{body:.20}");
        }
        assert_eq!(message(r#"{"error":{"message":""}}"#), None);
        assert_eq!(ErrorBody::read(b"\xff\xfe").message(), None);
    }

    #[test]
    fn a_message_is_cut_between_characters_and_has_no_control_characters() {
        assert_eq!(message(&"é".repeat(MESSAGE_LIMIT + 1)), Some("é".repeat(MESSAGE_LIMIT)));
        assert_eq!(message(r#"{"error":"a\u0000\u001b[1m\nb"}"#).as_deref(), Some("a[1m\nb"));
    }

    #[test]
    fn an_error_of_a_stream_may_contain_its_status() {
        let status = |body: &str| ErrorBody::read(body.as_bytes()).status();
        assert_eq!(status(r#"{"error":{"code":429}}"#), Some(429));
        assert_eq!(status(r#"{"error":{"code":"503"}}"#), Some(503));
        assert_eq!(status(r#"{"code":404}"#), Some(404));
        assert_eq!(status(r#"{"error":{"code":"busy"}}"#), None);
    }
}
