//! The bodies of OpenAI's API that the coordinator makes itself: errors and the list of models.

use std::time::UNIX_EPOCH;

use super::error_kind::ApiErrorKind;
use crate::coordinator::fleet::roster::ModelSummary;
use crate::core::formats::openai::{ErrorBody, Model, ModelList};

/// An error body.
pub(crate) fn error(kind: ApiErrorKind, message: &str) -> String {
    let param = matches!(kind, ApiErrorKind::Model | ApiErrorKind::Path | ApiErrorKind::Unavailable).then_some("model");
    let code = Some(kind.code());
    let kind = match kind {
        ApiErrorKind::Capacity => "rate_limit_error",
        ApiErrorKind::Unavailable
        | ApiErrorKind::Overloaded
        | ApiErrorKind::Stopping
        | ApiErrorKind::Upstream
        | ApiErrorKind::Timeout => "server_error",
        _ => "invalid_request_error",
    };
    ErrorBody::new(kind, message, param, code).json()
}

/// An error body for a backend that refused a request with this status.
pub(crate) fn refusal(status: u16, message: &str) -> String {
    let kind = if status == 429 { "rate_limit_error" } else { "invalid_request_error" };
    ErrorBody::new(kind, message, None, None).json()
}

/// The body of `GET /v1/models`. A model was created when it was first offered.
pub(crate) fn models(models: &[ModelSummary]) -> String {
    let models = models.iter().map(|model| {
        let created = model.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Model::new(model.id.as_str(), created, model.context_window)
    });
    serde_json::to_string(&ModelList::of(models)).unwrap_or_default()
}
