//! Dialling the coordinator with awc: TCP, TLS and the HTTP upgrade.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::ParseError;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::error::{ConnectError as AwcConnectError, SendRequestError, WsClientError};
use awc::http::Uri;
use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use rustls::CertificateError;
use tokio::net::TcpStream;
use url::Url;

use super::link::{Connector, DialError, Upgraded};
use super::refusal::RefusalReader;
use super::tcp::{self, ProxyTarget};
use crate::protocol::liveness::DEAD_AFTER;

/// Everything up to the answer to the upgrade: no step can take longer, so none needs a limit of its own.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// Dials one coordinator.
pub struct WebSocketConnector {
    url: Url,
    target: String,
    tcp: Tcp,
    tls: Arc<rustls::ClientConfig>,
}

impl WebSocketConnector {
    /// A connector for a `ws` or `wss` URL that configuration has checked.
    pub fn new(url: Url, tls: Arc<rustls::ClientConfig>, proxy: Option<ProxyTarget>) -> Self {
        let host = url.host_str().unwrap_or_default();
        let target = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        Self { url, target, tcp: Tcp { proxy: proxy.map(Arc::new) }, tls }
    }
}

impl Connector for WebSocketConnector {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>> {
        // A fresh client each time: the name is resolved again, and nothing of a broken connection lives on.
        let connector = awc::Connector::new()
            .connector(self.tcp.clone())
            .rustls_0_23(Arc::clone(&self.tls))
            .timeout(DIAL_LIMIT)
            .handshake_timeout(DIAL_LIMIT);
        let client = awc::Client::builder().connector(connector).timeout(DIAL_LIMIT).disable_redirects();
        let client = client.wrap(RefusalReader).finish();
        let url = self.url.to_string();
        Box::pin(async move {
            let connecting = tokio::time::timeout(DIAL_LIMIT, client.ws(url).connect());
            let (_, framed) = connecting.await.map_err(|_| DialError::TimedOut)?.map_err(dial_error)?;
            let parts = framed.into_parts();
            Ok(Upgraded { stream: Box::new(parts.io), leftover: BytesMut::from(&parts.read_buf[..]) })
        })
    }

    fn target(&self) -> &str {
        &self.target
    }
}

/// The TCP part of awc's connector.
#[derive(Clone)]
struct Tcp {
    proxy: Option<Arc<ProxyTarget>>,
}

impl Service<ConnectInfo<Uri>> for Tcp {
    type Response = Connection<Uri, TcpStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let proxy = self.proxy.clone();
        Box::pin(async move {
            let uri = info.request().clone();
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
                Some("wss" | "https") => 443,
                _ => 80,
            });
            let connected = match proxy {
                None => tcp::connect(&host, port).await,
                Some(proxy) => tcp::connect_by_proxy(&proxy, &host, port).await,
            };
            // awc passes an io::Error through, and that one carries the cause.
            let stream = connected.map_err(|error| ConnectError::Io(io::Error::other(error)))?;
            tcp::end_when_unacknowledged(&stream, DEAD_AFTER).map_err(ConnectError::Io)?;
            Ok(Connection::new(uri, stream))
        })
    }
}

fn dial_error(error: WsClientError) -> DialError {
    match error {
        WsClientError::SendRequest(SendRequestError::Custom(error, _)) => match error.downcast::<DialError>() {
            Ok(refusal) => *refusal,
            Err(_) => DialError::Upgrade("the request could not be made".to_owned()),
        },
        WsClientError::SendRequest(
            SendRequestError::Connect(AwcConnectError::Io(error))
            | SendRequestError::Send(error)
            | SendRequestError::Response(ParseError::Io(error)),
        ) => io_error(error),
        WsClientError::SendRequest(SendRequestError::Timeout | SendRequestError::Connect(AwcConnectError::Timeout)) => {
            DialError::TimedOut
        }
        WsClientError::SendRequest(SendRequestError::Connect(AwcConnectError::Disconnected)) => {
            DialError::Connect(io::ErrorKind::ConnectionAborted)
        }
        other => DialError::Upgrade(cause(&other).to_owned()),
    }
}

fn cause(error: &WsClientError) -> &'static str {
    match error {
        WsClientError::InvalidUpgradeHeader
        | WsClientError::InvalidConnectionHeader(_)
        | WsClientError::MissingConnectionHeader => "the answer has no proper upgrade headers",
        WsClientError::MissingWebSocketAcceptHeader | WsClientError::InvalidChallengeResponse(..) => {
            "the answer's accept key is missing or wrong"
        }
        _ => "the answer is no HTTP that makes sense here",
    }
}

fn io_error(error: io::Error) -> DialError {
    let kind = error.kind();
    let Some(inner) = error.get_ref() else { return DialError::Connect(kind) };
    if let Some(dial) = inner.downcast_ref::<DialError>() {
        return dial.clone();
    }
    match inner.downcast_ref::<rustls::Error>() {
        Some(tls) => tls_error(tls),
        // The TLS connector takes a host as it stands in the URL, and an IPv6 address has brackets there.
        None if kind == io::ErrorKind::InvalidInput => {
            DialError::Tls("the host is neither a name nor an IPv4 address".to_owned())
        }
        None => DialError::Connect(kind),
    }
}

fn tls_error(error: &rustls::Error) -> DialError {
    match error {
        // With its context it lists all names in the certificate: the peer's words, and no bound on their number.
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            tls_error(&rustls::Error::InvalidCertificate(CertificateError::NotValidForName))
        }
        other => DialError::Tls(other.to_string()),
    }
}
