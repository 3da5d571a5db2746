//! An agent's end of an in-memory connection and the peer's, and what the peer reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};

use crate::messages::ids::{Generation, JobId};
use crate::messages::wire::{BinaryChunk, ErrorCode, Extensions, FromAgent, JobError};
use crate::relay::allowance::Allowance;
use crate::relay::job_stream::{JobHandle, JobStream};
use crate::relay::outbox::Outbox;
use crate::transport::websocket::codec::{Frame, FrameReader, Role};
use crate::transport::websocket::line::Line;
use crate::transport::websocket::link::{Link, Reader, Upgraded};
use crate::transport::websocket::pump::{self, Inbox, PumpEnd};

/// A stream that counts how often it is written to.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.0).poll_write(cx, bytes);
        self.1.fetch_add(usize::from(polled.is_ready()), Ordering::Relaxed);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

pub(super) struct Deaf;

impl Inbox for Deaf {
    async fn text(&mut self, _: Bytes) -> Option<FromAgent> {
        None
    }

    fn binary(&mut self, _: usize) {}
}

/// An agent's end of a connection, and the peer's.
pub(super) struct Connection {
    pub(super) outbox: Outbox,
    pub(super) line: Arc<Line>,
    pub(super) reader: Reader,
    pub(super) writes: Arc<AtomicUsize>,
    pub(super) far: DuplexStream,
    pub(super) frames: FrameReader,
}

impl Connection {
    /// The stream holds so many bytes.
    pub(super) fn new(capacity: usize, agreed: Extensions) -> Self {
        let (near, far) = tokio::io::duplex(capacity);
        let writes = Arc::new(AtomicUsize::new(0));
        let stream = Box::new(Counted(near, Arc::clone(&writes)));
        let link = Link::new(Upgraded { stream, leftover: BytesMut::new() }, Role::Client, 1024);
        let (reader, line) = link.split();
        let outbox =
            Outbox::new(Generation::numbered(1), agreed, Arc::clone(&line), &Allowance::of_sessions(1 << 20, 8 << 20));
        Self { outbox, line, reader, writes, far, frames: FrameReader::new(Role::Server, 1 << 20, BytesMut::new()) }
    }

    /// One whose stream is full of a first job's bytes, so that all others wait.
    pub(super) fn clogged(agreed: Extensions) -> (Self, JobHandle) {
        let connection = Self::new(8 * 1024, agreed);
        let (handle, stream) = connection.outbox.open(JobId::random());
        send_all(&stream, &[b'c'; 30 * 1024]);
        (connection, handle)
    }

    /// Frames that the peer can read without the pump.
    pub(super) fn written(&mut self) -> Vec<Frame> {
        while let Some(Ok(1..)) = self.far.read_buf(self.frames.space()).now_or_never() {}
        std::iter::from_fn(|| self.frames.pop().unwrap()).collect()
    }

    /// Pumps up to a close frame of ours. What the peer gets.
    pub(super) async fn pumped(self) -> Vec<Frame> {
        let Self { outbox, line, reader, mut far, mut frames, .. } = self;
        outbox.close(1000, "").unwrap();
        let peer = async {
            let mut read = Vec::new();
            while !matches!(read.last(), Some(Frame::Close { .. })) {
                far.read_buf(frames.space()).await.unwrap();
                read.extend(std::iter::from_fn(|| frames.pop().unwrap()));
            }
            drop(far);
            read
        };
        let mut inbox = Deaf;
        let (end, read) = futures_util::join!(pump::run(reader, &line, &outbox, &mut inbox), peer);
        assert_eq!(end, PumpEnd::ClosedByUs);
        read
    }
}

pub(super) fn failed(job: JobId) -> FromAgent {
    let (error_code, message) = (ErrorCode::Internal, String::new());
    FromAgent::JobError(JobError { job_id: job, error_code, message, tokens_emitted: 0 })
}

pub(super) fn end(stream: &JobStream) -> bool {
    stream.end(failed(stream.job()), Box::new(|| {}))
}

/// Sends bytes of any number, for which there is room.
pub(super) fn send_all(stream: &JobStream, bytes: &[u8]) {
    assert_eq!(hold(stream, bytes), bytes.len());
    stream.flush();
}

/// Appends bytes as far as there is room for them, and returns how many that are.
pub(super) fn hold(stream: &JobStream, bytes: &[u8]) -> usize {
    let mut held = 0;
    loop {
        match stream.append(&bytes[held..]) {
            0 => return held,
            taken => held += taken,
        }
    }
}

/// The job and the bytes of a chunk.
pub(super) fn chunk(frame: &Frame) -> Option<(JobId, Vec<u8>)> {
    match frame {
        Frame::Text(text) => match serde_json::from_slice(text) {
            Ok(FromAgent::JobChunk(chunk)) => Some((chunk.job_id, base64(&chunk.data))),
            _ => None,
        },
        Frame::Binary(frame) => {
            let chunk = BinaryChunk::parse(frame).unwrap();
            Some((chunk.job.into(), chunk.bytes.to_vec()))
        }
        _ => None,
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// The count of response bytes in a job's terminal frame.
pub(super) fn terminal(frame: &Frame) -> Option<(JobId, u64)> {
    let Frame::Text(text) = frame else { return None };
    match serde_json::from_slice(text) {
        Ok(FromAgent::JobError(error)) => Some((error.job_id, error.tokens_emitted)),
        _ => None,
    }
}
