//! A server on a socket, and the dial that connects to it. Every wait has a deadline.
//!
//! These tests are about what comes before frames: TCP, TLS, proxies and the bytes of the upgrade, well-formed or not. The
//! testkit's scripted coordinator begins after it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outpost::testkit::{Connector, DialError, HttpRequest, ProxyTarget, Upgraded, WebSocketConnector, client_config};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// What an event may take on a busy machine. Only a broken test takes it.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends a test that would wait for ever.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("in {LIMIT:?} there was no {what}"),
    }
}

/// A listening socket on 127.0.0.1.
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// Its URL under a name.
    pub(crate) fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/agent", self.addr.port())
    }

    pub(crate) fn plain_url(&self) -> String {
        self.url("ws", "127.0.0.1")
    }

    /// The next connection.
    pub(crate) async fn tcp(&self) -> TcpStream {
        within("connection", self.listener.accept()).await.unwrap().0
    }

    /// The next connection and the request on it.
    pub(crate) async fn request(&self) -> (TcpStream, HttpRequest) {
        let mut stream = self.tcp().await;
        let request = read_request(&mut stream).await;
        (stream, request)
    }

    /// No client has connected.
    #[track_caller]
    pub(crate) fn assert_untouched(self) {
        let accepted = self.listener.into_std().unwrap().accept();
        assert!(accepted.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    }
}

/// Reads the head of a request.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> HttpRequest {
    within("request", HttpRequest::read_head(stream)).await.unwrap().0
}

/// The answer that opens a WebSocket, with these lines in the place of the accept key's.
pub(crate) fn accepted_with(lines: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n{lines}\r\n")
}

/// What a client sent before it received anything from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) server_name: Option<String>,
    pub(crate) protocols: Vec<String>,
}

/// The server's side of a TLS handshake.
pub(crate) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Arc<ServerConfig>,
) -> io::Result<(TlsStream<S>, Hello)> {
    let start = within("hello", LazyConfigAcceptor::new(Default::default(), stream)).await?;
    let said = start.client_hello();
    let protocols = said.alpn().into_iter().flatten().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    let hello = Hello { server_name: said.server_name().map(str::to_owned), protocols };
    Ok((within("end of the handshake", start.into_stream(config)).await?, hello))
}

/// Answers the request on this stream with a WebSocket, and more bytes in the same write.
pub(crate) async fn upgrade(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), behind: &[u8]) -> HttpRequest {
    let request = read_request(stream).await;
    let mut answer = request.accept_websocket().unwrap().into_bytes();
    answer.extend_from_slice(behind);
    stream.write_all(&answer).await.unwrap();
    stream.flush().await.unwrap();
    request
}

/// A connector for this URL, without a proxy.
pub(crate) fn connector(url: &str, tls: Arc<ClientConfig>) -> WebSocketConnector {
    WebSocketConnector::new(url.parse().unwrap(), tls, None)
}

/// A connector for this URL by way of a proxy.
pub(crate) fn connector_by(proxy: ProxyTarget, url: &str, tls: Arc<ClientConfig>) -> WebSocketConnector {
    WebSocketConnector::new(url.parse().unwrap(), tls, Some(proxy))
}

/// What a client has that trusts no private authority.
pub(crate) fn untrusting() -> Arc<ClientConfig> {
    client_config(None).unwrap()
}

/// Dials while the other side does its part.
pub(crate) async fn dial<T>(
    connector: &WebSocketConnector,
    part: impl Future<Output = T>,
) -> (Result<Upgraded, DialError>, T) {
    tokio::join!(within("end of the dial", connector.dial()), part)
}

/// The error of a dial that must fail.
#[track_caller]
pub(crate) fn refusal(dialled: Result<Upgraded, DialError>) -> DialError {
    match dialled {
        Ok(_) => panic!("the dial went well"),
        Err(error) => error,
    }
}

/// Waits until the client has closed the connection. A reset is an end as well.
pub(crate) async fn left(stream: &mut (impl AsyncRead + Unpin)) {
    while within("end of the connection", stream.read(&mut [0; 512])).await.is_ok_and(|read| read > 0) {}
}
