//! Binds, runs and stops a coordinator.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Extensions, Server, ServerHandle, Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::SERVER;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, Error, HttpServer};
use futures_util::TryFutureExt;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::{self, CoordinatorError};
use super::retry_after;
use super::state::CoordinatorState;
use crate::config::{AgentHosts, CoordinatorConfig};
use crate::coordinator::agents::link::CloseReason;
use crate::coordinator::agents::session;
use crate::coordinator::agents::session_lifecycle::expire_sessions;
use crate::coordinator::api::handlers as api;
use crate::coordinator::events::{
    ApiWithoutKey, CoordinatorEvents, CoordinatorListening, CoordinatorStopped, CoordinatorStopping, JobsCutShort,
    SocketOptionRefused, count_repeats_each_minute,
};
use crate::messages::wire::EXTENSION_TIMES;
use crate::transport::tcp::reachable;

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 2048;
/// Seconds for what is still on its way to clients that have taken over their responses.
const SHUTDOWN_TIMEOUT: u64 = 2;

/// A coordinator that listens on its port. It serves nothing before [`CoordinatorServer::run`].
pub struct CoordinatorServer {
    server: Server,
    state: Arc<CoordinatorState>,
    local_addr: SocketAddr,
}

/// Stops a coordinator from another task.
#[derive(Clone)]
pub struct CoordinatorHandle {
    server: ServerHandle,
    state: Arc<CoordinatorState>,
}

/// Binds a coordinator.
pub fn bind(config: CoordinatorConfig) -> Result<CoordinatorServer, CoordinatorError> {
    error::check(&config)?;
    let listen = config.listen;
    let in_bind = |source| CoordinatorError::Bind { listen, source };
    let threads = config.threads.max(1);
    let connections = config.max_connections.div_ceil(threads).max(1);
    let silence = config.agent_silence;
    let listener = listener(listen).map_err(in_bind)?;
    let local_addr = listener.local_addr().map_err(in_bind)?;
    let names = match &config.agent_hosts {
        AgentHosts::Named(names) => names.clone(),
        AgentHosts::OwnAddress => reachable(local_addr).to_string().parse().into_iter().collect(),
    };
    let state = CoordinatorState::new(config, names);
    if state.config.api_key.is_none() {
        state.events.emit(&ApiWithoutKey { listen });
    }
    let events = state.clone();
    let data = Data::from(state.clone());
    let server = HttpServer::new(move || app(data.clone()))
        .workers(threads)
        .max_connections(connections)
        .disable_signals()
        .tcp_nodelay(true)
        // A client that closes its side has disconnected: its job is cancelled at once.
        .h1_allow_half_closed(false)
        .shutdown_timeout(SHUTDOWN_TIMEOUT)
        .on_connect(move |io: &dyn Any, _: &mut Extensions| set_user_timeout(io, silence, &events.events))
        .listen(listener)
        .map_err(in_bind)?;
    Ok(CoordinatorServer { server: server.run(), state, local_addr })
}

/// A socket that listens. It is made here, so that its address is known before the server is.
fn listener(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    // A coordinator that restarts gets its port back while connections of the last one time out.
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

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

/// Makes the kernel end a connection whose peer acknowledges no bytes. A session does not run while its socket is full,
/// so it can't do that itself.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(io: &dyn Any, after: Duration, events: &CoordinatorEvents) {
    let Some(stream) = io.downcast_ref::<actix_rt::net::TcpStream>() else { return };
    if let Err(cause) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(after)) {
        events.emit(&SocketOptionRefused { option: "TCP_USER_TIMEOUT", cause });
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_: &dyn Any, _: Duration, _: &CoordinatorEvents) {}

impl CoordinatorServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle to stop it.
    pub fn handle(&self) -> CoordinatorHandle {
        CoordinatorHandle { server: self.server.handle(), state: self.state.clone() }
    }

    /// Serves until it is stopped. Must be awaited on an actix system.
    pub async fn run(self) -> io::Result<()> {
        self.state.events.emit(&CoordinatorListening { addr: self.local_addr });
        tokio::select! {
            result = self.server => result,
            never = count_repeats_each_minute(&self.state.events) => match never {},
            never = expire_sessions(&self.state) => match never {},
        }
    }
}

impl CoordinatorHandle {
    /// Stops: refuses agents and requests with 503, announces to the agents that their connections will be closed, waits some
    /// seconds for running jobs, closes the agents' connections with 1001 `drain:deploy`, and returns when all connections are
    /// closed.
    pub async fn stop(&self) {
        let events = &self.state.events;
        events.emit(&CoordinatorStopping { in_flight: self.state.gauges().in_flight });
        dismiss_agents(&self.state).await;
        self.server.stop(true).await;
        events.count_repeats();
        events.emit(&CoordinatorStopped);
    }
}

/// Refuses agents and requests from now on, announces to the agents that their connections will be closed, waits for running jobs
/// as long as a stop does, and closes the connections.
pub(crate) async fn dismiss_agents(state: &CoordinatorState) {
    let grace = state.config.stop_grace;
    state.begin_stop();
    let links = state.links();
    let deadline = grace.clamp(*EXTENSION_TIMES.start(), *EXTENSION_TIMES.end());
    for link in links {
        link.hand_over(deadline);
    }
    // New connections are still accepted, so that `/healthz` and the other paths can say that the coordinator stops.
    let drained = tokio::time::timeout(grace, state.drain()).await;
    if drained.is_err() {
        state.events.emit(&JobsCutShort { in_flight: state.responding() });
    }
    let links = state.links();
    for link in links {
        link.close(CloseReason::Deploy);
    }
}
