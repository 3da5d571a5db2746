//! The bodies of OpenAI's API that the coordinator makes itself: errors and the list of models.

use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error_kind::ApiErrorKind;
use crate::coordinator::fleet::roster::ModelSummary;
use crate::core::formats::error_envelope;
use crate::core::json;

/// An error body.
pub(crate) fn error(kind: ApiErrorKind, message: &str) -> String {
    let param = matches!(kind, ApiErrorKind::Model | ApiErrorKind::Path).then_some("model");
    let code = Some(kind.code());
    let kind = match kind {
        ApiErrorKind::Capacity => "rate_limit_error",
        ApiErrorKind::Overloaded | ApiErrorKind::Stopping | ApiErrorKind::Upstream | ApiErrorKind::Timeout => {
            "server_error"
        }
        _ => "invalid_request_error",
    };
    error_envelope::openai(kind, message, param, code)
}

/// An error body for a backend that refused a request with this status.
pub(crate) fn refusal(status: u16, message: &str) -> String {
    let kind = if status == 429 { "rate_limit_error" } else { "invalid_request_error" };
    error_envelope::openai(kind, message, None, None)
}

/// Whether a body is an error in the shape that this API's clients read.
pub(crate) fn is_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "message")]
        _message: String,
    }
    let shape = json::object::<Shape<'_>>(body);
    shape.is_some_and(|shape| json::parse::<Error>(Some(shape.error)).is_some())
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
}

/// The body of `GET /v1/models`. `created` is when the model was first offered, in seconds of Unix time.
pub(crate) fn models(models: &[ModelSummary]) -> String {
    let data = models.iter().map(|model| Model {
        id: model.id.as_str(),
        object: "model",
        created: model.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        owned_by: "outpost",
        context_window: model.context_window,
    });
    serde_json::to_string(&List { object: "list", data: data.collect() }).unwrap_or_default()
}
