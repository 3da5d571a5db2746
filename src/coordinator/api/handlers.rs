//! The HTTP handlers: they check the key and read the request. Dispatch and the response are elsewhere.

use std::sync::Arc;

use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::errors::ApiError;
use super::{keyless, openai, request, response};
use crate::coordinator::agents::handshake::same;
use crate::coordinator::agents::peer::Peer;
use crate::coordinator::events::RequestRefused;
use crate::coordinator::fleet::dispatch::Dispatch;
use crate::coordinator::metrics::Gauges;
use crate::coordinator::state::CoordinatorState;
use crate::messages::backend::Format;
use crate::messages::endpoint::Endpoint;
use crate::telemetry::prometheus;

/// `POST /v1/chat/completions`.
pub(crate) async fn chat_completions(req: HttpRequest, body: Payload, state: Data<CoordinatorState>) -> HttpResponse {
    serve(&req, body, state, Endpoint::ChatCompletions).await
}

/// `POST /v1/completions`.
pub(crate) async fn completions(req: HttpRequest, body: Payload, state: Data<CoordinatorState>) -> HttpResponse {
    serve(&req, body, state, Endpoint::Completions).await
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(req: HttpRequest, body: Payload, state: Data<CoordinatorState>) -> HttpResponse {
    serve(&req, body, state, Endpoint::Embeddings).await
}

/// `POST /v1/responses`.
pub(crate) async fn responses(req: HttpRequest, body: Payload, state: Data<CoordinatorState>) -> HttpResponse {
    serve(&req, body, state, Endpoint::Responses).await
}

/// `POST /v1/messages`.
pub(crate) async fn messages(req: HttpRequest, body: Payload, state: Data<CoordinatorState>) -> HttpResponse {
    serve(&req, body, state, Endpoint::Messages).await
}

/// `GET /v1/models`.
pub(crate) async fn models(req: HttpRequest, state: Data<CoordinatorState>) -> HttpResponse {
    if let Err(error) = authorize(&req, &state) {
        return fail(&state, &error, Format::OpenAi);
    }
    let models = state.models();
    HttpResponse::Ok().content_type("application/json").body(openai::models(&models))
}

/// `GET /api/agents`.
pub(crate) async fn agents(req: HttpRequest, state: Data<CoordinatorState>) -> HttpResponse {
    if let Err(error) = authorize(&req, &state) {
        return fail(&state, &error, Format::OpenAi);
    }
    let agents = state.agents();
    HttpResponse::Ok().json(agents)
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    agents: usize,
    in_flight: usize,
    /// Requests that wait for a slot.
    waiting: usize,
}

/// `GET /healthz`: needs no key, and returns 503 while the coordinator stops.
pub(crate) async fn healthz(state: Data<CoordinatorState>) -> HttpResponse {
    let Gauges { agents, in_flight, waiting, .. } = state.gauges();
    if state.is_stopping() {
        HttpResponse::ServiceUnavailable().json(Health { status: "stopping", agents, in_flight, waiting })
    } else {
        HttpResponse::Ok().json(Health { status: "ok", agents, in_flight, waiting })
    }
}

/// `GET /metrics`, as Prometheus text.
pub(crate) async fn metrics(req: HttpRequest, state: Data<CoordinatorState>) -> HttpResponse {
    if let Err(error) = authorize(&req, &state) {
        return fail(&state, &error, Format::OpenAi);
    }
    let page = state.events.metrics_page(state.gauges());
    HttpResponse::Ok().content_type(prometheus::CONTENT_TYPE).body(page)
}

/// All other paths and methods.
pub(crate) async fn no_such_endpoint(state: Data<CoordinatorState>) -> HttpResponse {
    fail(&state, &ApiError::NoSuchEndpoint, Format::OpenAi)
}

/// Responds with an error, and counts the request if it was refused.
fn fail(state: &CoordinatorState, error: &ApiError, format: Format) -> HttpResponse {
    if error.is_refusal() {
        state.events.emit(&RequestRefused { cause: error.kind() });
    }
    error.response(format)
}

async fn serve(req: &HttpRequest, body: Payload, state: Data<CoordinatorState>, endpoint: Endpoint) -> HttpResponse {
    match run(req, body, &state, endpoint).await {
        Ok(response) => response,
        Err(error) => fail(&state, &error, endpoint.format()),
    }
}

async fn run(
    req: &HttpRequest,
    body: Payload,
    state: &Arc<CoordinatorState>,
    endpoint: Endpoint,
) -> Result<HttpResponse, ApiError> {
    authorize(req, state)?;
    if state.config.api_key.is_none() && !keyless::is_json(req.headers()) {
        return Err(ApiError::NotJsonType);
    }
    let body = state.body_reader.read(req.headers(), body).await?;
    let wanted = request::read(&body.bytes, endpoint)?;
    let client = Peer(req.peer_addr()).network();
    let mut dispatch = Dispatch::new(state.clone(), client, &wanted, body, endpoint);
    loop {
        let started = dispatch.start().await?;
        match response::respond(started, endpoint, wanted.response).await {
            Ok(response) => return Ok(response),
            // The client has got nothing.
            Err(error) => dispatch.failed(error)?,
        }
    }
}

/// Checks the API key, which is a bearer token or, from Anthropic's clients, `x-api-key`. If the coordinator has no key, only
/// programs on this machine are served.
fn authorize(req: &HttpRequest, state: &CoordinatorState) -> Result<(), ApiError> {
    let Some(key) = &state.config.api_key else { return Ok(keyless::check(req.headers())?) };
    let text = |name: &str| req.headers().get(name).and_then(|value| value.to_str().ok());
    let bearer = text(AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let given = [bearer, text("x-api-key")];
    if given.into_iter().flatten().any(|given| same(key, given)) { Ok(()) } else { Err(ApiError::Unauthorized) }
}
