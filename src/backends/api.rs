//! An HTTP API: where it is, the key that opens it, and a client for it that belongs to one thread. Knows nothing of
//! what is asked; driven by `client` for jobs and by `probe` for looks.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Connector, ConnectorService, Resolver};
use awc::error::SendRequestError;
use awc::http::header::{self, HeaderName, HeaderValue};
use awc::http::{Method, Uri};
use awc::{ClientRequest, ClientResponse, SendClientRequest};
use futures_util::future::{FutureExt, LocalBoxFuture};
use rustls::ClientConfig;
use url::Url;

use super::SendError;
use crate::messages::backend::Format;
use crate::messages::endpoint::Endpoint;
use crate::messages::secret::Secret;

/// Bounds finding and reaching the server (DNS and TCP), and once more the TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("outpost/", env!("CARGO_PKG_VERSION"));

/// The version of Anthropic's API that requests name.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Where an API is and what opens it. Shared by all threads.
#[derive(Clone)]
pub(super) struct Api {
    /// Scheme, host, port and the path before `/v1`, without a slash at its end.
    base: Arc<str>,
    key: Option<Secret>,
    tls: Arc<ClientConfig>,
}

impl Api {
    /// `url` may end in `/v1`, as operators write it either way. Credentials, query and fragment in it are dropped.
    pub(super) fn new(url: &Url, key: Option<Secret>, tls: Arc<ClientConfig>) -> Self {
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/');
        let base = format!("{}{path}", url.origin().ascii_serialization()).into();
        Self { base, key, tls }
    }

    /// One at a port of this host.
    pub(super) fn local(port: u16, key: Option<Secret>, tls: Arc<ClientConfig>) -> Self {
        Self { base: format!("http://127.0.0.1:{port}").into(), key, tls }
    }

    /// A client for the calling thread.
    ///
    /// It follows no redirect, so that the key and the prompt reach the configured host only, and reads no proxy from
    /// the environment. It has no limit of connections and no deadline beyond connecting: callers have both.
    pub(super) fn client(&self) -> ApiClient {
        // awc's connectors ask for the process's provider. The second call finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connector = awc::Connector::new()
            .connector(NoDelay { base: Connector::new(Resolver::default()).service() })
            .rustls_0_23(Arc::clone(&self.tls))
            .timeout(CONNECT)
            .handshake_timeout(CONNECT)
            .limit(0);
        let http = awc::Client::builder()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .add_default_header((header::USER_AGENT, USER_AGENT))
            .finish();
        ApiClient { http, api: self.clone() }
    }
}

/// A thread's client of one API.
#[derive(Clone)]
pub(super) struct ApiClient {
    http: awc::Client,
    api: Api,
}

impl ApiClient {
    /// A request with the key in it, on a connection of its own: closing that cancels the request, and no stale one is
    /// ever reused.
    pub(super) fn request(&self, method: Method, path: &str) -> ClientRequest {
        let request = self
            .http
            .request(method, format!("{}{path}", self.api.base))
            .force_close()
            .no_decompress()
            .insert_header((header::ACCEPT_ENCODING, "identity"));
        match &self.api.key {
            Some(key) => with_secret(request, header::AUTHORIZATION, &format!("Bearer {}", key.reveal())),
            None => request,
        }
    }

    /// A POST of JSON to a format's path, with the headers that this format wants.
    pub(super) fn post(&self, endpoint: Endpoint) -> ClientRequest {
        let request = self.request(Method::POST, endpoint.path()).content_type("application/json");
        match endpoint.format() {
            Format::OpenAi => request,
            Format::Anthropic => {
                let request = request.insert_header(("anthropic-version", ANTHROPIC_VERSION));
                match &self.api.key {
                    Some(key) => with_secret(request, HeaderName::from_static("x-api-key"), key.reveal()),
                    None => request,
                }
            }
        }
    }
}

/// A key that can't stand in a header is left out; the server then says that it wants one.
fn with_secret(request: ClientRequest, name: HeaderName, text: &str) -> ClientRequest {
    match HeaderValue::from_str(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            request.insert_header((name, value))
        }
        Err(_) => request,
    }
}

/// Waits for the head of the response.
///
/// Known limits of the client underneath: an unasked `1xx` counts as the response, and a server that answers before it
/// has read the whole body and closes is seen as unreachable.
pub(super) async fn head(sent: SendClientRequest) -> Result<ClientResponse, SendError> {
    sent.await.map_err(|error| match error {
        SendRequestError::Response(actix_http::error::ParseError::Io(_)) => SendError::Unreachable,
        SendRequestError::Response(_) | SendRequestError::H2(_) => SendError::Garbled,
        _ => SendError::Unreachable,
    })
}

/// Connects with TCP_NODELAY set: a body is written in pieces, and the last must not wait for an ACK of the one before.
#[derive(Clone)]
struct NoDelay {
    base: ConnectorService,
}

impl Service<ConnectInfo<Uri>> for NoDelay {
    type Response = Connection<Uri, TcpStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Service::<ConnectInfo<Uri>>::poll_ready(&self.base, cx)
    }

    fn call(&self, to: ConnectInfo<Uri>) -> Self::Future {
        self.base
            .call(to)
            .map(|connection| {
                let connection = connection?;
                connection.io_ref().set_nodelay(true).map_err(ConnectError::Io)?;
                Ok(connection)
            })
            .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> String {
        let tls = crate::transport::tls::client_config(None).unwrap();
        Api::new(&url.parse().unwrap(), None, tls).base.to_string()
    }

    #[test]
    fn a_base_url_may_or_may_not_name_the_version() {
        assert_eq!(base("http://127.0.0.1:8000"), "http://127.0.0.1:8000");
        assert_eq!(base("http://127.0.0.1:8000/v1/"), "http://127.0.0.1:8000");
        assert_eq!(base("https://host.example/api/v1"), "https://host.example/api");
        assert_eq!(base("http://[::1]:8080/"), "http://[::1]:8080");
        assert_eq!(base("http://user:pass@host/x?y#z"), "http://host/x");
    }

    #[test]
    fn the_key_is_not_shown_by_the_request() {
        let tls = crate::transport::tls::client_config(None).unwrap();
        let api = Api::new(&"http://127.0.0.1:1".parse().unwrap(), Some(Secret::new("canary")), tls);
        let request = api.client().post(Endpoint::Messages);
        assert_eq!(request.headers().get("x-api-key").unwrap(), "canary");
        assert_eq!(request.headers().get("authorization").unwrap(), "Bearer canary");
        assert!(!format!("{request:?}").contains("canary"));
    }
}
