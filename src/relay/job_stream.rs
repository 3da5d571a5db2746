//! The bytes of one job on their way to the coordinator, its terminal frame, and its phase.
//!
//! The worker appends the bytes of the answer. Once they are enough for a frame, or the worker has no more for now, they are
//! encoded and written on the worker's thread if the line is idle; else they are held, and the job waits for its turn at the
//! pump. Bytes are encoded as they are written, for the connection that exists then.
//!
//! - STREAM-1: at most one terminal frame is written, behind all bytes that were appended before the end.
//! - STREAM-2: nothing of the job is written after its terminal frame, nor after a cancel.
//! - STREAM-3: `produced >= written`, and the difference is what is held, which is bounded.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::chunk::{self, MAX_CHUNK};
use super::outbox::{GUARANTEED, MOST, Outbox};
use super::segments::Segments;
use crate::messages::ids::JobId;
use crate::messages::wire::{FromAgent, ResponseHead};
use crate::transport::websocket::frame_buffer::FrameBuffer;

/// Bytes that are enough for a frame: more are not waited for.
const ENOUGH: usize = MAX_CHUNK - 4 * 1024;

/// The job is being worked.
const RUNNING: u8 = 0;
/// It has a terminal frame, which waits behind its bytes.
const ENDED: u8 = 1;
/// The terminal frame was written.
const WRITTEN: u8 = 2;
/// Nothing more of it is sent.
const CANCELLED: u8 = 3;

/// Called as a terminal frame is written, on the thread that writes it, before the peer can see the frame.
pub(crate) type OnWritten = Box<dyn FnOnce() + Send>;

/// A worker's, a pool's or a pump's part in a job.
#[derive(Clone)]
pub struct JobStream(Arc<Shared>);

/// The router's hold on a job. Dropping it cancels the job, unless it was released.
#[derive(Debug)]
pub struct JobHandle {
    stream: JobStream,
    is_released: bool,
}

struct Shared {
    job: JobId,
    outbox: Outbox,
    /// Changed with `held` locked.
    phase: AtomicU8,
    /// A backend has begun to answer.
    begun: AtomicBool,
    held: Mutex<Held>,
    /// Wakes the worker, which alone waits, when the job was cancelled or ended by another.
    stop: Notify,
    /// Wakes the worker when bytes were written.
    room: Notify,
}

/// What was produced and is not written.
#[derive(Default)]
struct Held {
    bytes: Segments,
    next: NextFrame,
    terminal: Option<(FromAgent, OnWritten)>,
    /// It has a turn at the pump.
    is_queued: bool,
    /// When the first byte was appended.
    first_byte: Option<Instant>,
}

/// What the next frame needs besides its bytes.
#[derive(Default)]
struct NextFrame {
    /// The head of the response, for its first frame.
    head: Option<ResponseHead>,
    /// The head is sent though there are no bytes.
    head_is_due: bool,
    /// Response bytes written: the offset of the frame.
    written: u64,
}

impl NextFrame {
    /// Appends the frame with these bytes, the first one with the head of the response.
    fn append(&mut self, job: JobId, outbox: &Outbox, out: &mut FrameBuffer, bytes: &[u8]) {
        match self.head.take() {
            Some(head) => chunk::append_first(out, job, &head, bytes),
            None => outbox.encoding().append(out, job, self.written, bytes),
        }
        self.head_is_due = false;
        self.written += bytes.len() as u64;
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.next.head_is_due && self.terminal.is_none()
    }

    /// Bytes held beyond the guaranteed part: what was borrowed for them.
    fn borrowed(&self) -> usize {
        self.bytes.len().saturating_sub(GUARANTEED)
    }
}

impl fmt::Debug for JobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobStream").field(&self.0.job).finish()
    }
}

impl JobStream {
    pub(super) fn new(job: JobId, outbox: Outbox) -> (JobHandle, Self) {
        let (phase, begun) = (AtomicU8::new(RUNNING), AtomicBool::new(false));
        let (held, stop, room) = (Mutex::default(), Notify::new(), Notify::new());
        let stream = Self(Arc::new(Shared { job, outbox, phase, begun, held, stop, room }));
        (JobHandle { stream: stream.clone(), is_released: false }, stream)
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        self.0.job
    }

    /// Whether the connection carries heads of responses.
    pub fn carries_heads(&self) -> bool {
        self.0.outbox.carries_heads()
    }

    /// Whether the worker should go on.
    pub fn is_running(&self) -> bool {
        self.phase() == RUNNING
    }

    /// Ready as soon as the job was cancelled, or ended by another than its worker, which alone waits here.
    pub async fn stopped(&self) {
        while self.is_running() {
            self.0.stop.notified().await;
        }
    }

    /// Notes that a backend has begun to answer, whatever becomes of the answer: from here on it may have cost something.
    pub fn begin_answer(&self) {
        self.0.begun.store(true, Ordering::Relaxed);
    }

    /// Whether a backend has begun to answer.
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Sets the head of the response for its first frame, where the connection carries heads. To be called before any byte.
    pub fn set_head(&self, head: ResponseHead) {
        let mut held = self.held();
        if self.carries_heads() && self.is_running() {
            held.next.head = Some(head);
        }
    }

    /// Response bytes written to the connection so far.
    pub fn written(&self) -> u64 {
        self.held().next.written
    }

    /// When the first byte of the response was produced.
    pub fn first_byte(&self) -> Option<Instant> {
        self.held().first_byte
    }

    /// Takes bytes of the response, as many as there is room for, and returns how many those are. They are sent once they
    /// are enough for a frame, else by [`Self::flush`] or with the end of the job.
    pub fn append(&self, bytes: &[u8]) -> usize {
        let mut held = self.held();
        if !self.is_running() {
            // The worker is about to stop.
            return bytes.len();
        }
        held.first_byte.get_or_insert_with(Instant::now);
        if held.is_empty() && bytes.len() >= ENOUGH {
            let frame = bytes.get(..MAX_CHUNK).unwrap_or(bytes);
            if self.0.outbox.try_write(|out| held.next.append(self.0.job, &self.0.outbox, out, frame)) {
                return frame.len();
            }
        }
        let kept = self.keep(&mut held, bytes);
        if held.bytes.len() >= ENOUGH && !self.try_write(&mut held) {
            self.queue(held);
        }
        kept
    }

    /// Takes as many of these bytes as there is room for: those of one frame, or more where the job waits for its turn anyway.
    fn keep(&self, held: &mut Held, bytes: &[u8]) -> usize {
        let most = if held.is_queued { MOST } else { MAX_CHUNK };
        let fitting = bytes.len().min(most.saturating_sub(held.bytes.len()));
        let wanted = (held.bytes.len() + fitting).saturating_sub(GUARANTEED) - held.borrowed();
        let kept = fitting - (wanted - self.0.outbox.borrow_spare(wanted));
        held.bytes.push(bytes.get(..kept).unwrap_or_default());
        kept
    }

    /// Sends what was appended: at once where the line is idle, else in the job's turn. To be called before the worker waits
    /// for more bytes: a stream that waits keeps no large buffer.
    pub fn flush(&self) {
        let mut held = self.held();
        if held.is_empty() || self.try_write(&mut held) {
            held.bytes.shrink();
        } else {
            self.queue(held);
        }
    }

    /// Has the head of the response sent also where the response has no bytes.
    pub fn need_head(&self) {
        let mut held = self.held();
        held.next.head_is_due = held.next.head.is_some() && self.is_running();
    }

    /// Waits until there is room for more bytes. To be called by the worker alone, after [`Self::append`] took none.
    pub async fn room(&self) {
        loop {
            let written = self.0.room.notified();
            if self.held().bytes.len() < GUARANTEED {
                return;
            }
            written.await;
        }
    }

    /// Ends the job with its terminal frame, behind what was appended, and stops its worker. `written` is called as that frame is
    /// written; it is not if it never is. False: the job has ended or was cancelled before, and nothing changes.
    pub fn end(&self, terminal: FromAgent, written: OnWritten) -> bool {
        let mut held = self.held();
        if !self.is_running() {
            return false;
        }
        self.0.phase.store(ENDED, Ordering::Release);
        held.terminal = Some((terminal, written));
        if !self.try_write(&mut held) {
            self.queue(held);
        }
        self.0.stop.notify_one();
        true
    }

    /// Writes what is held at once, at most a frame and the terminal frame, where the line is idle. False: it is not, or the job
    /// has a turn at the pump.
    fn try_write(&self, held: &mut Held) -> bool {
        !held.is_queued
            && self.0.outbox.try_write(|out| {
                while !held.is_empty() {
                    self.append_frames(held, out);
                }
            })
    }

    /// Gives the job a turn at the pump, if it has something to write and has none.
    fn queue(&self, mut held: MutexGuard<'_, Held>) {
        if !held.is_queued && !held.is_empty() {
            held.is_queued = true;
            drop(held);
            self.0.outbox.queue(self.clone());
        }
    }

    /// The job's turn: appends its next frames. True where more is left for another turn.
    pub(super) fn append_next(&self, out: &mut FrameBuffer) -> bool {
        let mut held = self.held();
        self.append_frames(&mut held, out);
        // The worker may have nothing more for a long time.
        held.bytes.shrink();
        held.is_queued = !held.is_empty();
        held.is_queued
    }

    /// Appends a frame of the bytes held, and the terminal frame where that is all.
    fn append_frames(&self, held: &mut Held, out: &mut FrameBuffer) {
        if !held.bytes.is_empty() || held.next.head_is_due {
            let before = held.borrowed();
            held.next.append(self.0.job, &self.0.outbox, out, held.bytes.front());
            held.bytes.pop();
            self.0.outbox.return_spare(before - held.borrowed());
            self.0.room.notify_one();
        }
        if held.bytes.is_empty()
            && let Some((terminal, written)) = held.terminal.take()
        {
            chunk::append_terminal(out, terminal, held.next.written);
            self.0.phase.store(WRITTEN, Ordering::Release);
            written();
        }
    }

    fn cancel(&self) {
        let mut held = self.held();
        self.0.phase.store(CANCELLED, Ordering::Release);
        self.0.outbox.return_spare(held.borrowed());
        let (written, first_byte, dropped) = (held.next.written, held.first_byte, std::mem::take(&mut *held));
        (held.next.written, held.first_byte) = (written, first_byte);
        drop(held);
        if dropped.is_queued {
            self.0.outbox.unqueue(self);
        }
        self.0.stop.notify_one();
    }

    #[cfg(test)]
    pub(super) fn downgrade(&self) -> std::sync::Weak<impl Sized + use<>> {
        Arc::downgrade(&self.0)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn phase(&self) -> u8 {
        self.0.phase.load(Ordering::Acquire)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobHandle {
    /// The way of the job's bytes.
    pub fn stream(&self) -> &JobStream {
        &self.stream
    }

    /// Lets go of a job that ended by itself: its last frames are written.
    pub fn release(mut self) {
        self.is_released = true;
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if !self.is_released {
            self.stream.cancel();
        }
    }
}
