//! The HTTP handlers: who asks, with what body. What follows is done elsewhere.

use std::sync::Arc;

use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::errors::ApiError;
use super::{answer, keyless, openai, request};
use crate::coordinator::agents::handshake::same;
use crate::coordinator::fleet::dispatch;
use crate::coordinator::state::CoordinatorState;
use crate::messages::backend::Format;
use crate::messages::endpoint::Endpoint;

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
        return error.response(Format::OpenAi);
    }
    let models = state.roster().models();
    HttpResponse::Ok().content_type("application/json").body(openai::models(&models))
}

/// `GET /api/agents`.
pub(crate) async fn agents(req: HttpRequest, state: Data<CoordinatorState>) -> HttpResponse {
    if let Err(error) = authorize(&req, &state) {
        return error.response(Format::OpenAi);
    }
    let agents = state.roster().agents();
    HttpResponse::Ok().json(agents)
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    agents: usize,
    in_flight: usize,
}

/// `GET /healthz`: without a key, and 503 while it is stopping.
pub(crate) async fn healthz(state: Data<CoordinatorState>) -> HttpResponse {
    let (agents, in_flight) = {
        let roster = state.roster();
        (roster.links().len(), roster.in_flight())
    };
    if state.is_stopping() {
        HttpResponse::ServiceUnavailable().json(Health { status: "stopping", agents, in_flight })
    } else {
        HttpResponse::Ok().json(Health { status: "ok", agents, in_flight })
    }
}

/// Whatever else is asked for.
pub(crate) async fn no_such_endpoint() -> HttpResponse {
    ApiError::NoSuchEndpoint.response(Format::OpenAi)
}

async fn serve(req: &HttpRequest, body: Payload, state: Data<CoordinatorState>, endpoint: Endpoint) -> HttpResponse {
    match run(req, body, state.into_inner(), endpoint).await {
        Ok(response) => response,
        Err(error) => error.response(endpoint.format()),
    }
}

async fn run(req: &HttpRequest, body: Payload, state: Arc<CoordinatorState>, endpoint: Endpoint) -> Result<HttpResponse, ApiError> {
    authorize(req, &state)?;
    if state.config.api_key.is_none() && !keyless::is_json(req.headers()) {
        return Err(ApiError::NotJsonType);
    }
    let body = state.intake.read(req.headers(), body).await?;
    let asked = request::read(&body.bytes, endpoint)?;
    let started = dispatch::start(&state, &asked, body, endpoint).await?;
    Ok(answer::respond(started, endpoint, asked.answer).await)
}

/// Checks the API key, which comes as a bearer token or, as Anthropic's clients send it, as `x-api-key`. Without a key
/// only programs on this machine are served.
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
