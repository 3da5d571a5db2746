//! What serves requests: the paths of the agents and of the API.

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::SERVER;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, Error};
use futures_util::TryFutureExt;

use super::retry_after;
use super::state::CoordinatorState;
use crate::coordinator::agents::session;
use crate::coordinator::api::handlers as api;

/// What serves requests, of clients and of agents.
pub(crate) fn app(
    state: Data<CoordinatorState>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new()
        .app_data(state)
        .wrap(DefaultHeaders::new().add((SERVER, "outpost-coordinator")))
        .wrap_fn(|request, service| service.call(request).map_ok(retry_after::add))
        .wrap(from_fn(end_connections_of_a_stop))
        .configure(routes)
        .default_service(web::to(api::no_such_endpoint))
}

fn routes(app: &mut ServiceConfig) {
    app.route("/", web::get().to(session::accept))
        .route("/agent", web::get().to(session::accept))
        .route("/healthz", web::get().to(api::healthz))
        .route("/metrics", web::get().to(api::metrics))
        .route("/api/agents", web::get().to(api::agents))
        .route("/v1/models", web::get().to(api::models))
        .route("/v1/chat/completions", web::post().to(api::chat_completions))
        .route("/v1/completions", web::post().to(api::completions))
        .route("/v1/embeddings", web::post().to(api::embeddings))
        .route("/v1/responses", web::post().to(api::responses))
        .route("/v1/messages", web::post().to(api::messages));
}

/// While the coordinator stops, each response is the last one on its connection. The client sends its next request, such as a
/// retry, on a new connection, which a proxy leads to another coordinator.
async fn end_connections_of_a_stop(
    state: Data<CoordinatorState>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = next.call(request).await?;
    if state.is_stopping() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}
