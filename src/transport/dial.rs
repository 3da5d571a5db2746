//! Dialling the coordinator with awc: TCP, TLS and the HTTP upgrade.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use actix_http::error::ParseError;
use actix_rt::net::{ActixStream, Ready};
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::error::{ConnectError as AwcConnectError, SendRequestError, WsClientError};
use awc::http::Uri;
use awc::http::header::HOST;
use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::refusal::RefusalReader;
use super::stream::{DialError, Stream, UpgradeFault};
use super::tcp::{self, ProxyTarget};
use super::websocket::link::{Connector, Upgraded};
use crate::core::session::liveness::DEAD_AFTER;
use crate::messages::host_port::HostPort;

/// Everything up to the answer to the upgrade: no step can take longer, so none needs a limit of its own.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// Dials one coordinator.
pub struct WebSocketConnector {
    url: Url,
    target: String,
    /// Host and port as the header `Host` has them: no port where it is the scheme's own.
    authority: String,
    route: Arc<Route>,
}

/// The way to the coordinator, up to HTTP.
struct Route {
    host: String,
    port: u16,
    proxy: Option<ProxyTarget>,
    /// `None` for `ws`.
    tls: Option<Tls>,
}

struct Tls {
    /// `None` where no certificate can be of such a host.
    name: Option<ServerName<'static>>,
    connector: TlsConnector,
}

impl WebSocketConnector {
    /// A connector for a `ws` or `wss` URL that configuration has checked.
    pub fn new(url: Url, tls: Arc<rustls::ClientConfig>, proxy: Option<ProxyTarget>) -> Self {
        let shown = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let target = HostPort::of(&url).map(|target| target.to_string()).unwrap_or_default();
        let authority = url.port().map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}"));
        let (host, name) = match url.host() {
            Some(Host::Domain(name)) => (name.to_owned(), ServerName::try_from(name.to_owned()).ok()),
            Some(Host::Ipv4(address)) => (address.to_string(), Some(ServerName::IpAddress(address.into()))),
            Some(Host::Ipv6(address)) => (address.to_string(), Some(ServerName::IpAddress(address.into()))),
            None => (String::new(), None),
        };
        let tls = (url.scheme() == "wss").then(|| Tls { name, connector: TlsConnector::from(tls) });
        Self { url, target, authority, route: Arc::new(Route { host, port, proxy, tls }) }
    }
}

impl Connector for WebSocketConnector {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>> {
        let lent = Lent::default();
        // A fresh client each time: the name is resolved again, and nothing of a broken connection lives on.
        let connector = awc::Connector::new()
            .connector(Dialer { route: Arc::clone(&self.route), lent: lent.clone() })
            .timeout(DIAL_LIMIT)
            .handshake_timeout(DIAL_LIMIT);
        let client = awc::Client::builder().connector(connector).timeout(DIAL_LIMIT).disable_redirects();
        let client = client.wrap(RefusalReader).finish();
        // TLS is below the client.
        let mut url = self.url.clone();
        let has_scheme = self.url.scheme() == "ws" || url.set_scheme("ws").is_ok();
        debug_assert!(has_scheme, "either scheme can be replaced by the other");
        let opening = client.ws(url.as_str()).header(HOST, self.authority.as_str()).connect();
        Box::pin(async move {
            let connecting = tokio::time::timeout(DIAL_LIMIT, opening);
            let (_, framed) = connecting.await.map_err(|_| DialError::TimedOut)?.map_err(dial_error)?;
            let leftover = BytesMut::from(&framed.into_parts().read_buf[..]);
            let stream = lent.lock().take().ok_or(DialError::Connect(io::ErrorKind::NotConnected))?;
            Ok(Upgraded { stream, leftover })
        })
    }

    fn target(&self) -> &str {
        &self.target
    }
}

/// A stream that is lent to awc for the upgrade and taken back after it: awc's own type can't leave its thread.
#[derive(Clone, Default)]
struct Lent(Arc<Mutex<Option<Box<dyn Stream>>>>);

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lent")
    }
}

impl Lent {
    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, poll: impl FnOnce(Pin<&mut Box<dyn Stream>>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.lock().as_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

impl ActixStream for Lent {
    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        Poll::Ready(Ok(Ready::READABLE))
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        Poll::Ready(Ok(Ready::WRITABLE))
    }
}

/// What awc dials with: it connects along the route, whatever host it is given.
#[derive(Clone)]
struct Dialer {
    route: Arc<Route>,
    lent: Lent,
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connection<Uri, Lent>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let Self { route, lent } = self.clone();
        Box::pin(async move {
            // awc passes an io::Error through, and that one carries the cause.
            let stream = route.connect().await.map_err(ConnectError::Io)?;
            *lent.lock() = Some(stream);
            Ok(Connection::new(info.request().clone(), lent))
        })
    }
}

impl Route {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let connected = match &self.proxy {
            None => tcp::connect(&self.host, self.port).await,
            Some(proxy) => tcp::connect_by_proxy(proxy, &self.host, self.port).await,
        };
        let stream = connected.map_err(io::Error::other)?;
        tcp::end_when_unacknowledged(&stream, DEAD_AFTER)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(Tls { name: Some(name), connector }) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
            Some(Tls { name: None, .. }) => Err(io::Error::other(DialError::TlsName)),
        }
    }
}

fn dial_error(error: WsClientError) -> DialError {
    match error {
        WsClientError::SendRequest(SendRequestError::Custom(error, _)) => match error.downcast::<DialError>() {
            Ok(refusal) => *refusal,
            Err(_) => DialError::Upgrade(UpgradeFault::NoRequest),
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
        other => DialError::Upgrade(upgrade_fault(&other)),
    }
}

fn upgrade_fault(error: &WsClientError) -> UpgradeFault {
    match error {
        WsClientError::InvalidUpgradeHeader
        | WsClientError::InvalidConnectionHeader(_)
        | WsClientError::MissingConnectionHeader => UpgradeFault::Headers,
        WsClientError::MissingWebSocketAcceptHeader | WsClientError::InvalidChallengeResponse(..) => {
            UpgradeFault::AcceptKey
        }
        _ => UpgradeFault::NotHttp,
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
        None => DialError::Connect(kind),
    }
}

fn tls_error(error: &rustls::Error) -> DialError {
    match error {
        // With its context it lists all names in the certificate: the peer's words, and no bound on their number.
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            DialError::Tls(rustls::Error::InvalidCertificate(CertificateError::NotValidForName))
        }
        other => DialError::Tls(other.clone()),
    }
}
