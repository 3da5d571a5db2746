//! The bytes of one job on their way to the coordinator, its terminal frame, and its phase.
//!
//! The worker sends the bytes of the answer. On an idle line they are encoded and written at once, on the worker's thread;
//! else they are held, and the job waits for its turn at the pump. Bytes are encoded as they are written, for the connection
//! that exists then.
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

/// The job is being worked.
const RUNNING: u8 = 0;
/// It has a terminal frame, which waits behind its bytes.
const ENDED: u8 = 1;
/// The terminal frame was written.
const WRITTEN: u8 = 2;
/// Nothing more of it is sent.
const CANCELLED: u8 = 3;

/// Called as a terminal frame is written, on the thread that writes it, before the peer can see the frame.
pub type OnWritten = Box<dyn FnOnce() + Send>;

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
    /// Of the response, for its first frame.
    head: Option<ResponseHead>,
    /// The head is sent though there are no bytes.
    head_is_due: bool,
    /// Response bytes written: the offset of the next frame.
    written: u64,
    terminal: Option<(FromAgent, OnWritten)>,
    /// It has a turn at the pump.
    is_queued: bool,
    /// When the first byte was appended.
    first_byte: Option<Instant>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.head_is_due && self.terminal.is_none()
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
            held.head = Some(head);
        }
    }

    /// Response bytes written to the connection so far.
    pub fn written(&self) -> u64 {
        self.held().written
    }

    /// When the first byte of the response was produced.
    pub fn first_byte(&self) -> Option<Instant> {
        self.held().first_byte
    }

    /// Sends bytes of the response, at most [`MAX_CHUNK`], and empties the buffer: at once where nothing waits and the line
    /// is idle, else in the job's turn. False: there is no room for them, and nothing changed.
    pub fn send(&self, buffer: &mut Vec<u8>) -> bool {
        let mut held = self.held();
        if !self.is_running() {
            // The worker is about to stop.
            buffer.clear();
            return true;
        }
        held.first_byte.get_or_insert_with(Instant::now);
        if held.is_empty() && self.0.outbox.try_write(|out| self.append_chunk(&mut held, out, buffer)) {
            buffer.clear();
            return true;
        }
        let is_kept = self.keep(&mut held, buffer);
        self.queue(held);
        is_kept
    }

    /// The same, but the bytes are sent with the next ones, or with the end of the job.
    pub fn hold(&self, buffer: &mut Vec<u8>) -> bool {
        let mut held = self.held();
        if !self.is_running() {
            buffer.clear();
            return true;
        }
        held.first_byte.get_or_insert_with(Instant::now);
        let is_kept = self.keep(&mut held, buffer);
        if !is_kept {
            self.queue(held);
        }
        is_kept
    }

    /// Takes the bytes of the buffer if there is room for them.
    fn keep(&self, held: &mut Held, buffer: &mut Vec<u8>) -> bool {
        let total = held.bytes.len() + buffer.len();
        if total > MOST {
            return false;
        }
        let wanted = total.saturating_sub(GUARANTEED) - held.borrowed();
        let borrowed = self.0.outbox.borrow_spare(wanted);
        if borrowed < wanted {
            self.0.outbox.return_spare(borrowed);
            return false;
        }
        held.bytes.push(std::mem::take(buffer));
        true
    }

    /// Has the head of the response sent also where the response has no bytes.
    pub fn need_head(&self) {
        let mut held = self.held();
        held.head_is_due = held.head.is_some() && self.is_running();
    }

    /// Waits until there is room for so many bytes, at most [`MAX_CHUNK`]. To be called by the worker alone, after [`Self::send`]
    /// or [`Self::hold`] found none.
    pub async fn room(&self, count: usize) {
        loop {
            let written = self.0.room.notified();
            if self.held().bytes.len() + count <= GUARANTEED {
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
        self.send_held(held);
        self.0.stop.notify_one();
        true
    }

    /// Writes what is held at once where the line is idle and it is no more than one full frame has, else queues the job.
    fn send_held(&self, mut held: MutexGuard<'_, Held>) {
        let is_short = !held.is_queued && held.bytes.len() <= MAX_CHUNK;
        let append_all = |out: &mut FrameBuffer| {
            while !held.is_empty() {
                self.append_frames(&mut held, out);
            }
        };
        if !(is_short && self.0.outbox.try_write(append_all)) {
            self.queue(held);
        }
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
        held.is_queued = !held.is_empty();
        held.is_queued
    }

    /// Appends a frame of the bytes held, and the terminal frame where that is all.
    fn append_frames(&self, held: &mut Held, out: &mut FrameBuffer) {
        if !held.bytes.is_empty() || held.head_is_due {
            let before = held.borrowed();
            let bytes = held.bytes.pop();
            self.append_chunk(held, out, &bytes);
            self.0.outbox.return_spare(before - held.borrowed());
            self.0.room.notify_one();
        }
        if held.bytes.is_empty()
            && let Some((terminal, written)) = held.terminal.take()
        {
            chunk::append_terminal(out, terminal, held.written);
            self.0.phase.store(WRITTEN, Ordering::Release);
            written();
        }
    }

    /// Appends a frame of these bytes, the first one with the head of the response.
    fn append_chunk(&self, held: &mut Held, out: &mut FrameBuffer, bytes: &[u8]) {
        match held.head.take() {
            Some(head) => chunk::append_first(out, self.0.job, &head, bytes),
            None => self.0.outbox.encoding().append(out, self.0.job, held.written, bytes),
        }
        held.head_is_due = false;
        held.written += bytes.len() as u64;
    }

    fn cancel(&self) {
        let mut held = self.held();
        self.0.phase.store(CANCELLED, Ordering::Release);
        self.0.outbox.return_spare(held.borrowed());
        let (written, first_byte, dropped) = (held.written, held.first_byte, std::mem::take(&mut *held));
        (held.written, held.first_byte) = (written, first_byte);
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
