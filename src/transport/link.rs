//! An open WebSocket: a byte stream, its frames, and who makes them.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use super::frame::{Frame, FrameReader, Role, Violation, encode};
use crate::protocol::close::LinkEnd;

/// How long a write may stand still.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

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
pub(super) struct Reader {
    stream: ReadHalf<Box<dyn Stream>>,
    frames: FrameReader,
}

/// The writing half. Bytes wait in `out` until the stream has taken them; dropping a write in the middle loses none.
pub(super) struct Writer {
    stream: WriteHalf<Box<dyn Stream>>,
    role: Role,
    out: BytesMut,
}

/// Both halves of an open WebSocket.
pub struct Link {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

impl Link {
    /// A link over an upgraded stream.
    pub fn new(upgraded: Upgraded, role: Role, max_message: usize) -> Self {
        let (read, write) = tokio::io::split(upgraded.stream);
        let frames = FrameReader::new(role, max_message, upgraded.leftover);
        Self { reader: Reader { stream: read, frames }, writer: Writer { stream: write, role, out: BytesMut::new() } }
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
        self.writer.push(frame);
        self.writer.flush(|_| ()).await
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

impl Writer {
    pub(super) fn push(&mut self, frame: &Frame) {
        encode(&mut self.out, self.role, frame);
    }

    /// Appends a frame that is encoded already.
    pub(super) fn push_encoded(&mut self, frame: &[u8]) {
        self.out.extend_from_slice(frame);
    }

    /// Bytes not yet taken by the stream.
    pub(super) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Writes all that waits, and reports each part that the stream took. Ends the link if it takes nothing for
    /// [`WRITE_STALL`].
    pub(super) async fn flush(&mut self, taken: impl Fn(Taken)) -> Result<(), LinkEnd> {
        while !self.out.is_empty() {
            let (written, room) = within_stall(self.stream.write(&self.out)).await?;
            if written == 0 {
                return Err(LinkEnd::WriteError(io::ErrorKind::WriteZero));
            }
            self.out.advance(written);
            taken(Taken { bytes: written, room });
        }
        // What TLS still holds goes now.
        let ((), room) = within_stall(self.stream.flush()).await?;
        taken(Taken { bytes: 0, room });
        Ok(())
    }
}

/// Bytes that the stream took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) room: Room,
}

/// Whether the stream had room for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It had.
    AtOnce,
    /// Only after others had left it.
    AfterWaiting,
}

/// What a write or a flush comes to. Its end is the link's, and so is [`WRITE_STALL`] without one.
async fn within_stall<T>(writing: impl Future<Output = io::Result<T>>) -> Result<(T, Room), LinkEnd> {
    let mut room = Room::AtOnce;
    // Only the stream may say that it has no room, not the scheduler.
    let mut writing = pin!(unconstrained(writing));
    let polled = poll_fn(|cx| {
        let polled = writing.as_mut().poll(cx);
        if polled.is_pending() {
            room = Room::AfterWaiting;
        }
        polled
    });
    match timeout(WRITE_STALL, polled).await {
        Err(_) => Err(LinkEnd::WriteStalled),
        Ok(Ok(written)) => Ok((written, room)),
        Ok(Err(error)) => Err(LinkEnd::WriteError(error.kind())),
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
