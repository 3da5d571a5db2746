//! An open WebSocket: a byte stream, its frames, and who makes them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};

use super::frame::{Frame, FrameReader, Role, Violation};
use super::line::{Line, Writer};
use crate::core::session::close::LinkEnd;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection after its HTTP upgrade.
pub struct Upgraded {
    /// The byte stream.
    pub stream: Box<dyn Stream>,
    /// Bytes that came right behind the upgrade.
    pub leftover: BytesMut,
}

/// Why there is no connection. The text is for the log and holds nothing that the peer wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{0} can't be resolved: {1}")]
    Resolve(String, io::ErrorKind),
    /// No address takes the connection.
    #[error("no connection: {0}")]
    Connect(io::ErrorKind),
    /// The proxy refuses, or is none.
    #[error("the proxy does not connect us: {0}")]
    Proxy(String),
    /// TLS failed: an unknown issuer, another name, an expired certificate.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server answers, and not with a WebSocket.
    #[error("the server answers {0} instead of a WebSocket")]
    Refused(u16),
    /// 401 or 403: the server, or a proxy in front of it, does not let us in.
    #[error("the server does not let us in: it answers {0}; check the credentials in OUTPOST_COORDINATOR_URL")]
    NotAdmitted(u16),
    /// 429 or 503: not now.
    #[error("the server takes no connections now: it answers {status}")]
    Busy {
        /// Its status.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The server is elsewhere. That is not followed: it would have the key prove itself to somebody else.
    #[error("the server redirects us ({0}), which is not followed; set OUTPOST_COORDINATOR_URL to where it is")]
    Redirected(u16),
    /// The answer to the upgrade is not acceptable.
    #[error("the upgrade failed: {0}")]
    Upgrade(String),
    /// No answer within the limit.
    #[error("no answer in time")]
    TimedOut,
}

/// Makes connections to the coordinator.
pub trait Connector {
    /// Dials once. Bounded in time by itself.
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>>;

    /// The host and port dialled, for the log.
    fn target(&self) -> &str;
}

/// The reading half.
pub struct Reader {
    stream: ReadHalf<Box<dyn Stream>>,
    frames: FrameReader,
}

/// Both halves of an open WebSocket.
pub struct Link {
    reader: Reader,
    line: Line,
}

impl Link {
    /// A link over an upgraded stream.
    pub fn new(upgraded: Upgraded, role: Role, max_message: usize) -> Self {
        let (read, write) = tokio::io::split(upgraded.stream);
        let frames = FrameReader::new(role, max_message, upgraded.leftover);
        Self { reader: Reader { stream: read, frames }, line: Line::new(Writer::new(write, role)) }
    }

    /// The halves, for the pump and for those who write.
    pub fn split(self) -> (Reader, Arc<Line>) {
        (self.reader, Arc::new(self.line))
    }

    /// The next frame. Safe to drop and ask again.
    pub async fn next(&mut self) -> Result<Frame, LinkEnd> {
        loop {
            if let Some(frame) = self.reader.ready()? {
                return Ok(frame);
            }
            self.reader.read().await?;
        }
    }

    /// Sends one frame and waits until the stream has it.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), LinkEnd> {
        self.line.push(frame);
        self.line.flush().await
    }
}

impl Reader {
    /// A frame that is whole already.
    pub(super) fn ready(&mut self) -> Result<Option<Frame>, LinkEnd> {
        self.frames.pop().map_err(LinkEnd::from)
    }

    /// Reads once.
    pub(super) async fn read(&mut self) -> Result<(), LinkEnd> {
        match self.stream.read_buf(self.frames.space()).await {
            Ok(0) => Err(LinkEnd::EndOfStream),
            Ok(_) => Ok(()),
            Err(error) => Err(LinkEnd::ReadError(error.kind())),
        }
    }
}

impl From<Violation> for LinkEnd {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::TooLarge => LinkEnd::TooLarge,
            other => LinkEnd::Violation(other.as_str()),
        }
    }
}
