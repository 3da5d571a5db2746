//! What a backend says of its own failure, cut down to a label that may be passed on.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{object, parse};

/// Error bodies longer than this, in bytes, are not read.
pub const ERROR_BODY_LIMIT: usize = 64 << 10;

/// An error that a backend reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFault {
    /// Its `code` or `type`, if that is a label of 1 to 64 letters, digits, `_`, `.` and `-`. Never its message, which
    /// may quote the prompt.
    pub label: Option<String>,
}

impl BackendFault {
    /// Reads the JSON body of an error response: OpenAI's `error`, Anthropic's wrapper around it, vLLM's bare error
    /// object, or FastAPI's `detail`. A body of another shape, or of more than [`ERROR_BODY_LIMIT`], has no label.
    pub fn from_body(body: &[u8]) -> Self {
        let body = Some(body).filter(|body| body.len() <= ERROR_BODY_LIMIT).and_then(object::<ErrorBody<'_>>);
        Self { label: body.and_then(|body| body.label()) }
    }

    /// Whether the label is one by which servers say that they have no such model. With a status other than 404 or
    /// 400 it may mean something else.
    pub fn is_model_missing(&self) -> bool {
        const LABELS: [&str; 8] = [
            "model_not_found",
            "model_not_loaded",
            "not_found_error",
            "not_found",
            "NotFoundError",
            "ModelNotFoundError",
            "ModelNotFound",
            "DeploymentNotFound",
        ];
        self.label.as_deref().is_some_and(|label| LABELS.contains(&label))
    }
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

impl ErrorBody<'_> {
    fn label(&self) -> Option<String> {
        if self.error.is_some() {
            return parse::<ErrorBody<'_>>(self.error)?.own_label();
        }
        if self.detail.is_some() {
            // An object of the server's own, or a list of what is wrong with the request.
            let list = self.detail.and_then(|detail| serde_json::from_str::<Vec<&RawValue>>(detail.get()).ok());
            let first = list.and_then(|faults| faults.first().copied());
            let detail = parse::<ErrorBody<'_>>(first.or(self.detail))?;
            return match detail.error {
                Some(error) => parse::<ErrorBody<'_>>(Some(error))?.own_label(),
                None => detail.own_label(),
            };
        }
        self.own_label()
    }

    /// A code that says more than a number, else the type, else the number.
    fn own_label(&self) -> Option<String> {
        let code = label_of(self.code);
        let is_number = code.as_ref().is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        if is_number { label_of(self.kind).or(code) } else { code.or_else(|| label_of(self.kind)) }
    }
}

fn label_of(value: Option<&RawValue>) -> Option<String> {
    let text = value?.get();
    let label = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    // Without quotes only a number is a label; `null`, `true` and what has brackets is none.
    let label = label.or_else(|| text.starts_with(|first: char| first.is_ascii_digit()).then_some(text))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    ((1..=64).contains(&label.len()) && label.bytes().all(allowed)).then(|| label.to_owned())
}
