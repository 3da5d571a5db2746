//! The status page of a running agent, and the client that reads it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{App, HttpResponse, HttpServer, web};
use tokio::sync::watch;

use crate::config::StatusAddr;
use crate::telemetry::{Snapshot, prometheus};

/// How long the client waits.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
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
        if let Ok(addr) = self.listener.local_addr() {
            log::info!("status page addr=http://{addr}/status");
        }
        let state = web::Data::new(snapshot);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .route("/status", web::get().to(status))
                .route("/metrics", web::get().to(metrics))
                .route("/healthz", web::get().to(|| async { "ok\n" }))
                .route("/readyz", web::get().to(ready))
        })
        .workers(1)
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

type State = web::Data<watch::Receiver<Snapshot>>;

async fn status(state: State) -> HttpResponse {
    let snapshot = state.borrow().clone();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(snapshot)
}

async fn metrics(state: State) -> HttpResponse {
    let page = prometheus::render(&state.borrow());
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")).body(page)
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
