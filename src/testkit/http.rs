//! The server's part of HTTP/1.1: reads requests. Used by the scripted peers over TCP, and by tests whose servers answer
//! with bytes of their own.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// A request as it was received.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The first line without its version, such as `GET /v1/models`.
    pub line: String,
    /// All lines of the head, each with its end.
    pub head: String,
    /// The body, by its `Content-Length`.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// Reads a request with its body. `None`: the connection ended first, or this is not a request.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let (mut request, rest) = Self::read_head(stream).await?;
        let length = request.header("content-length").map_or(Some(0), |length| length.parse().ok())?;
        request.body.reserve_exact(length);
        request.body.extend_from_slice(&rest);
        while request.body.len() < length {
            if stream.read_buf(&mut request.body).await.ok()? == 0 {
                return None;
            }
        }
        Some(request)
    }

    /// Reads the head of a request. Returns the bytes that were received after it too.
    pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Self, BytesMut)> {
        let mut received = BytesMut::new();
        let end = loop {
            if let Some(at) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if received.len() > MAX_HEAD || stream.read_buf(&mut received).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(received.split_to(end).to_vec()).ok()?;
        let line = head.lines().next()?.rsplit_once(' ')?.0.to_owned();
        Some((Self { line, head, body: Vec::new() }, received))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The head of the response that accepts an upgrade to a WebSocket. `None`: the request has no key for one.
    pub fn accept_websocket(&self) -> Option<String> {
        let accept = actix_http::ws::hash_key(self.header("sec-websocket-key")?.as_bytes());
        Some(format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
            String::from_utf8_lossy(&accept)
        ))
    }
}

/// A header's value in a head.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}
