//! An open WebSocket: a byte stream, its frames, and who makes them.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncReadExt, ReadHalf};

use super::super::stream::{DialError, Stream};
use super::codec::{Frame, FrameReader, Role, Violation};
use super::line::{Line, Writer};
use crate::core::session::close::LinkEnd;

/// A connection after its HTTP upgrade.
pub struct Upgraded {
    /// The byte stream.
    pub stream: Box<dyn Stream>,
    /// Bytes that came right behind the upgrade.
    pub leftover: BytesMut,
}

/// Makes connections to the coordinator.
pub trait Connector {
    /// Dials once. Bounded in time by itself.
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>>;

    /// The host and port of the coordinator in canonical form, for the log and for what `auth2` signs. Behind a proxy they are
    /// the coordinator's all the same.
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
