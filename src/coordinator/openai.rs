//! The shapes of OpenAI's API that the coordinator makes itself: errors and the list of models.

use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::fault::Fault;
use super::roster::ModelSummary;

#[derive(Serialize)]
struct Envelope<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'static str>,
    code: &'static str,
}

/// An error body.
pub(super) fn error(fault: Fault, message: &str) -> String {
    let (kind, param, code) = match fault {
        Fault::Key => ("invalid_request_error", None, "invalid_api_key"),
        Fault::Endpoint => ("invalid_request_error", None, "unknown_url"),
        Fault::Size => ("invalid_request_error", None, "request_too_large"),
        Fault::Request => ("invalid_request_error", None, "invalid_request"),
        Fault::Model => ("invalid_request_error", Some("model"), "model_not_found"),
        Fault::Capacity => ("rate_limit_error", None, "out_of_capacity"),
        Fault::Stopping => ("server_error", None, "shutting_down"),
        Fault::Upstream => ("server_error", None, "upstream_error"),
        Fault::Timeout => ("server_error", None, "timeout"),
    };
    serde_json::to_string(&Envelope { error: Detail { message, kind, param, code } }).unwrap_or_default()
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

/// The body of `GET /v1/models`. `created` is when the model was first on offer, in seconds of Unix time.
pub(super) fn models(models: &[ModelSummary]) -> String {
    let data = models.iter().map(|model| Model {
        id: model.id.as_str(),
        object: "model",
        created: model.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        owned_by: "outpost",
        context_window: model.context_window,
    });
    serde_json::to_string(&List { object: "list", data: data.collect() }).unwrap_or_default()
}
