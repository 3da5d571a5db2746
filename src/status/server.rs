//! The server of a running agent's status.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, CACHE_CONTROL, HOST, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpResponse, HttpServer, web};
use tokio::sync::watch;

use super::control::order;
use super::error::StatusError;
use super::history::history;
use super::order::Control;
use super::sources::{Sources, ViewSource};
use super::{metrics, page};
use crate::config::StatusAddr;
use crate::telemetry::Snapshot;
use crate::telemetry::prometheus::CONTENT_TYPE;
use crate::transport::local_only::is_this_machine;

/// The most connections at once. Each takes a file descriptor from the jobs.
const MAX_CONNECTIONS: usize = 32;

/// The largest order, in bytes.
const MAX_ORDER: usize = 1024;

/// A bound status server: the page, `/status` (JSON), `/metrics` (Prometheus), `/healthz` and `/readyz`.
pub(crate) struct StatusServer {
    listener: std::net::TcpListener,
}

impl StatusServer {
    /// Binds the address.
    pub(crate) fn bind(addr: SocketAddr) -> Result<Self, StatusError> {
        let listener = std::net::TcpListener::bind(addr).map_err(|error| StatusError::Bind(addr, error))?;
        Ok(Self { listener })
    }

    /// Binds the configured address, if there is one. An address that is in use is an error only if the operator named it.
    pub(crate) fn open(configured: StatusAddr) -> Result<Option<Self>, StatusError> {
        let StatusAddr::On { addr, explicit } = configured else { return Ok(None) };
        match Self::bind(addr) {
            Ok(server) => Ok(Some(server)),
            Err(error) if explicit => Err(error),
            Err(error) => {
                log::warn!(target: "outpost::agent", cause:% = error; "no status page: set OUTPOST_STATUS_ADDR to another address, or to off");
                Ok(None)
            }
        }
    }

    /// The address that it listens on.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves the snapshot, the router's state and the past of the ledger until the handle stops it.
    #[expect(clippy::disallowed_methods, reason = "the server is stopped through the handle")]
    pub(crate) fn serve(
        self,
        snapshot: watch::Receiver<Snapshot>,
        view: ViewSource,
        ledger: Option<PathBuf>,
        control: Option<Control>,
    ) -> io::Result<ServerHandle> {
        let addr = self.listener.local_addr()?;
        log::info!(target: "outpost::agent", addr:% = format_args!("http://{addr}/"); "status page");
        let is_local = addr.ip().is_loopback();
        let state = web::Data::new(Sources { snapshot, view, ledger, control, pages: Arc::default() });
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .wrap(from_fn(move |request, next| admit(is_local, request, next)))
                .configure(page::routes)
                .app_data(web::JsonConfig::default().limit(MAX_ORDER))
                .route("/history", web::get().to(history))
                .route("/orders", web::post().to(order))
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

async fn status(sources: web::Data<Sources>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(sources.status().await)
}

async fn prometheus(sources: web::Data<Sources>) -> HttpResponse {
    let page = metrics::render(&sources.snapshot(), sources.view().await.as_ref());
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, CONTENT_TYPE)).body(page)
}

async fn ready(sources: web::Data<Sources>) -> (&'static str, StatusCode) {
    if sources.snapshot.borrow().is_ready() {
        ("ready\n", StatusCode::OK)
    } else {
        ("not ready\n", StatusCode::SERVICE_UNAVAILABLE)
    }
}
