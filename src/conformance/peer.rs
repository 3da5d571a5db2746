//! One end of an open WebSocket, driven frame by frame. Used by the checks, and by scripted agents and coordinators.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::transport::stream::Stream;
use crate::transport::websocket::codec::{Frame, FrameReader, Role, Violation, encode};
use crate::transport::websocket::link::Upgraded;

/// The largest message taken from the other end, in bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// Why no frame was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The stream ended.
    #[error("the end of the stream")]
    Eof,
    /// Reading or writing failed.
    #[error("a connection error: {0}")]
    Broken(io::ErrorKind),
    /// The other end sent bytes that are not WebSocket.
    #[error("bytes that are not WebSocket: {0}")]
    NotWebSocket(Violation),
    /// Nothing was received before the deadline.
    #[error("nothing before the deadline")]
    Silence,
}

/// The place of a fragment in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// More follow.
    First,
    /// One between.
    Middle,
    /// None follows.
    Last,
}

impl Fragment {
    /// What stays of the first byte of a whole frame: its FIN bit (0x80) and its opcode (0x0f).
    fn mask(self) -> u8 {
        match self {
            Self::First => 0x7f,
            Self::Middle => 0x70,
            Self::Last => 0xf0,
        }
    }
}

/// An open WebSocket. It answers nothing by itself.
pub struct Peer {
    stream: Box<dyn Stream>,
    frames: FrameReader,
    role: Role,
}

impl Peer {
    /// The end with this role of a connection after its upgrade.
    pub fn new(role: Role, upgraded: Upgraded) -> Self {
        let Upgraded { stream, leftover } = upgraded;
        Self { stream, frames: FrameReader::new(role, MAX_MESSAGE, leftover), role }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If the connection failed, or did not take the frame before the deadline.
    pub async fn send(&mut self, frame: &Frame, deadline: Instant) -> Result<(), End> {
        let mut bytes = BytesMut::new();
        encode(&mut bytes, self.role, frame);
        self.send_raw(&bytes, deadline).await
    }

    /// Sends a frame as a fragment of a message. The type of the frame counts in the first fragment alone.
    ///
    /// # Errors
    /// As of [`Peer::send`].
    pub async fn send_fragment(&mut self, frame: &Frame, place: Fragment, deadline: Instant) -> Result<(), End> {
        let mut bytes = BytesMut::new();
        encode(&mut bytes, self.role, frame);
        if let Some(first) = bytes.first_mut() {
            *first &= place.mask();
        }
        self.send_raw(&bytes, deadline).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As of [`Peer::send`].
    pub async fn send_raw(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), End> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout_at(deadline, writing).await {
            Ok(written) => written.map_err(|error| End::Broken(error.kind())),
            Err(_) => Err(End::Silence),
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// If the connection ended, or no frame was received before the deadline.
    pub async fn next(&mut self, deadline: Instant) -> Result<Frame, End> {
        loop {
            if let Some(frame) = self.frames.pop().map_err(End::NotWebSocket)? {
                return Ok(frame);
            }
            match timeout_at(deadline, self.stream.read_buf(self.frames.space())).await {
                Ok(Ok(0)) => return Err(End::Eof),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(End::Broken(error.kind())),
                Err(_) => return Err(End::Silence),
            }
        }
    }
}
