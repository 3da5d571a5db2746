//! The status page of a running agent, and the client that reads it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, CACHE_CONTROL, HOST, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpResponse, HttpServer, web};
use tokio::sync::watch;

use super::metrics;
use crate::config::StatusAddr;
use crate::telemetry::Snapshot;
use crate::telemetry::prometheus::CONTENT_TYPE;
use crate::transport::local_only::is_this_machine;

/// How long the client waits.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// The most connections at once. Each takes a file descriptor from the jobs.
const MAX_CONNECTIONS: usize = 32;
/// The largest status the client reads.
const MAX_STATUS: usize = 4 * 1024 * 1024;

/// Why there is no status page, or none could be read.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The address can't be had.
    #[error("can't listen on {0} for the status page: {1}")]
    Bind(SocketAddr, io::Error),
    /// Nobody answers.
    #[error("no agent answers on {0}: is it running, and with this OUTPOST_STATUS_ADDR?")]
    NoAnswer(SocketAddr),
    /// Somebody else answers.
    #[error("what answers on {0} is no outpost agent")]
    NotOurs(SocketAddr),
}

/// A bound status page: `/status` (JSON), `/metrics` (Prometheus), `/healthz` and `/readyz`.
pub struct StatusServer {
    listener: std::net::TcpListener,
}

impl StatusServer {
    /// Takes the address.
    pub fn bind(addr: SocketAddr) -> Result<Self, StatusError> {
        let listener = std::net::TcpListener::bind(addr).map_err(|error| StatusError::Bind(addr, error))?;
        Ok(Self { listener })
    }

    /// Takes the configured address, if there is one. An address that is in use is an error only if the operator named it.
    pub fn open(configured: StatusAddr) -> Result<Option<Self>, StatusError> {
        let StatusAddr::On { addr, explicit } = configured else { return Ok(None) };
        match Self::bind(addr) {
            Ok(server) => Ok(Some(server)),
            Err(error) if explicit => Err(error),
            Err(error) => {
                log::warn!("no status page cause=\"{error}\" (set OUTPOST_STATUS_ADDR to another address, or to off)");
                Ok(None)
            }
        }
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves the snapshot until the handle stops it.
    #[expect(clippy::disallowed_methods, reason = "the server is stopped through the handle")]
    pub fn serve(self, snapshot: watch::Receiver<Snapshot>) -> io::Result<ServerHandle> {
        let addr = self.listener.local_addr()?;
        log::info!("status page addr=http://{addr}/status");
        let is_local = addr.ip().is_loopback();
        let state = web::Data::new(snapshot);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .wrap(from_fn(move |request, next| admit(is_local, request, next)))
                .route("/status", web::get().to(status))
                .route("/metrics", web::get().to(prometheus))
                .route("/healthz", web::get().to(|| async { "ok\n" }))
                .route("/readyz", web::get().to(ready))
        })
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .worker_max_blocking_threads(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(self.listener)?
        .run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(handle)
    }
}

/// Refuses requests to a loopback address whose `Host` does not name this machine: a web page sent them by DNS rebinding.
/// On any other address the operator opened the page to others, by whatever name they use.
async fn admit(
    is_local: bool,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let is_ours = |host: &HeaderValue| host.to_str().is_ok_and(is_this_machine);
    if is_local && !request.headers().get_all(HOST).all(is_ours) {
        let refusal = HttpResponse::Forbidden().body("the Host header must be localhost or a loopback address\n");
        return Ok(request.into_response(refusal));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

type State = web::Data<watch::Receiver<Snapshot>>;

async fn status(state: State) -> HttpResponse {
    let snapshot = state.borrow().clone();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(snapshot)
}

async fn prometheus(state: State) -> HttpResponse {
    let page = metrics::render(&state.borrow());
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, CONTENT_TYPE)).body(page)
}

async fn ready(state: State) -> (&'static str, StatusCode) {
    if state.borrow().is_ready() {
        ("ready\n", StatusCode::OK)
    } else {
        ("not ready\n", StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// Asks a running agent for its snapshot.
pub async fn fetch(addr: SocketAddr) -> Result<Snapshot, StatusError> {
    let client = awc::Client::builder().timeout(FETCH_LIMIT).disable_redirects().finish();
    let response = client.get(format!("http://{addr}/status")).send().await;
    let mut response = response.map_err(|_| StatusError::NoAnswer(addr))?;
    let body = response.body().limit(MAX_STATUS).await.map_err(|_| StatusError::NotOurs(addr))?;
    serde_json::from_slice(&body).map_err(|_| StatusError::NotOurs(addr))
}
