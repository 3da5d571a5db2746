//! The write half of an open connection. Every thread that has bytes for the coordinator may write, one at a time.
//!
//! On an idle line the thread that has bytes encodes and writes them itself ([`Line::try_write`]), which costs no hand-over.
//! When another thread is writing, or the stream takes no more, the bytes stay where they are, and the pump takes them from
//! its [`Source`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncWrite, WriteHalf};
use tokio::sync::Notify;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};

use super::super::stream::Stream;
use super::codec::{Frame, Role};
use super::control::ControlQueue;
pub(crate) use super::control::LinkGone;
use super::frame_buffer::FrameBuffer;
use crate::core::session::close::LinkEnd;
use crate::core::session::liveness::Liveness;
use crate::messages::wire::FromAgent;

/// How long a write may make no progress.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(30);

/// Where the pump gets data frames from: everything that is neither a control frame nor made by the pump itself.
pub(crate) trait Source {
    /// Appends the next frames, of at most some 64 KiB. Called again until there is nothing more. Called with the line
    /// locked, so it must not call the line.
    fn append_next(&self, out: &mut FrameBuffer) -> Next;

    /// The connection has ended: no more calls follow.
    fn link_ended(&self);
}

/// What a [`Source`] appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Frames, or nothing for now from a job that has just been cancelled: ask again.
    Appended,
    /// Nothing waits.
    Nothing,
    /// Our close frame, the last frame of the connection.
    Closed,
}

/// The write half of an open connection, and the control frames that wait for it.
pub struct Line {
    writer: Mutex<Writer>,
    liveness: Mutex<Liveness>,
    pub(super) control: ControlQueue,
    /// Wakes the pump when something waits: a control frame, a frame of the source, or bytes that the stream did not take.
    pub(super) work: Notify,
}

/// Frames on their way into the stream. Dropping a write in the middle loses nothing.
pub(super) struct Writer {
    /// `None` once the connection has ended.
    stream: Option<WriteHalf<Box<dyn Stream>>>,
    out: FrameBuffer,
    /// The stream may hold bytes back until it is flushed, as TLS does.
    unflushed: bool,
    /// Our close frame was appended: nothing follows it.
    is_closed: bool,
}

/// What one write did.
enum Progress {
    /// The stream took so many bytes.
    Took(usize),
    /// The stream has everything.
    Flushed,
}

impl Writer {
    pub(super) fn new(stream: WriteHalf<Box<dyn Stream>>, role: Role) -> Self {
        Self { stream: Some(stream), out: FrameBuffer::new(role), unflushed: false, is_closed: false }
    }

    fn is_idle(&self) -> bool {
        self.out.waiting().is_empty() && !self.unflushed
    }

    /// Writes once, or flushes where everything was written.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, LinkEnd>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(LinkEnd::EndOfStream)) };
        let failed = |error: io::Error| LinkEnd::WriteError(error.kind());
        let waiting = self.out.waiting();
        if waiting.is_empty() {
            let flushed = ready!(Pin::new(stream).poll_flush(cx));
            self.unflushed = false;
            return Poll::Ready(flushed.map(|()| Progress::Flushed).map_err(failed));
        }
        match ready!(Pin::new(stream).poll_write(cx, waiting)) {
            Ok(0) => Poll::Ready(Err(LinkEnd::WriteError(io::ErrorKind::WriteZero))),
            Ok(taken) => {
                self.out.advance(taken);
                self.unflushed = true;
                Poll::Ready(Ok(Progress::Took(taken)))
            }
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }
}

impl Line {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            writer: Mutex::new(writer),
            liveness: Mutex::new(Liveness::new(Instant::now().into_std())),
            control: ControlQueue::default(),
            work: Notify::new(),
        }
    }

    /// Wakes the pump: its source has something to write.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// Queues a control frame. It overtakes all response bytes that wait.
    pub fn control(&self, message: &FromAgent) -> Result<(), LinkGone> {
        self.control.push(message)?;
        self.wake();
        Ok(())
    }

    /// Appends frames and writes them at once on this thread, where the line is idle. False: it is not, and nothing was
    /// appended. Never waits. What the stream does not take is left to the pump.
    pub fn try_write(&self, append: impl FnOnce(&mut FrameBuffer)) -> bool {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if !writer.is_idle() || writer.is_closed || writer.stream.is_none() || self.control.has_frames() {
            return false;
        }
        append(&mut writer.out);
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = 0;
        // The pump waits for the stream's room only while frames wait, so its waker is not replaced here.
        while !writer.is_idle() {
            match writer.poll_progress(&mut cx) {
                Poll::Ready(Ok(Progress::Took(bytes))) => taken += bytes,
                Poll::Ready(Ok(Progress::Flushed)) => {}
                // The pump meets the same error.
                Poll::Ready(Err(_)) | Poll::Pending => {
                    writer.unflushed = true;
                    self.wake();
                    break;
                }
            }
        }
        drop(writer);
        self.liveness().sent(taken);
        true
    }

    /// Appends frames for the next write.
    pub(super) fn append<T>(&self, append: impl FnOnce(&mut FrameBuffer) -> T) -> T {
        append(&mut self.lock().out)
    }

    /// Appends one frame for the next write.
    pub(super) fn push(&self, frame: &Frame) {
        self.append(|out| out.push(frame));
    }

    /// Nothing is written behind what was appended before.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Writes everything that waits. Ends if the stream takes nothing for [`WRITE_STALL`].
    pub(super) async fn flush(&self) -> Result<(), LinkEnd> {
        while !self.lock().is_idle() {
            let mut waited = false;
            // Only the stream may say that it has no room, not the scheduler.
            let progress = unconstrained(poll_fn(|cx| {
                let polled = self.lock().poll_progress(cx);
                waited |= polled.is_pending();
                polled
            }));
            let bytes = match timeout(WRITE_STALL, progress).await {
                Err(_) => return Err(LinkEnd::WriteStalled),
                Ok(Err(end)) => return Err(end),
                Ok(Ok(Progress::Took(bytes))) => bytes,
                Ok(Ok(Progress::Flushed)) => 0,
            };
            if waited {
                self.liveness().made_room(bytes, Instant::now().into_std());
            } else {
                self.liveness().sent(bytes);
            }
        }
        Ok(())
    }

    /// What is known of the peer's life.
    pub(super) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the stream. Later writes have no effect.
    pub(super) fn shut(&self) {
        self.control.shut();
        self.lock().stream = None;
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
