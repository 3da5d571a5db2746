//! The response bytes of one job that are not written yet, its terminal frame, and its phase.
//!
//! The worker appends response bytes and sends them. On an idle line they are encoded and written at once, on the worker's
//! thread. Otherwise the job waits for its turn at the pump. Bytes are encoded when they are written, for the connection
//! that exists then.
//!
//! - STREAM-1: at most one terminal frame is written, after all bytes that were appended before the end.
//! - STREAM-2: nothing of the job is written after its terminal frame, nor after a cancel.
//! - STREAM-3: `produced >= written`; the difference is held in memory, and is bounded.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::chunk::{self, MAX_CHUNK};
use super::outbox::{GUARANTEED, MOST, Outbox};
use super::segments::Segments;
use crate::messages::ids::JobId;
use crate::messages::wire::{FromAgent, ResponseHead};
use crate::transport::frame_buffer::FrameBuffer;

/// The job is running.
const RUNNING: u8 = 0;
/// It has a terminal frame, which waits for its bytes to be written.
const ENDED: u8 = 1;
/// The terminal frame was written.
const WRITTEN: u8 = 2;
/// Nothing more of it is sent.
const CANCELLED: u8 = 3;

/// Called when a terminal frame is written, on the thread that writes it, before the peer can see the frame.
pub type OnWritten = Box<dyn FnOnce() + Send>;

/// A job's stream, as workers, pools and the pump use it.
#[derive(Clone)]
pub struct JobStream(Arc<Shared>);

/// The router's handle of a job. Dropping it cancels the job, unless it was released.
#[derive(Debug)]
pub struct JobHandle {
    stream: JobStream,
    is_released: bool,
}

struct Shared {
    job: JobId,
    outbox: Outbox,
    /// Changed only while `held` is locked.
    phase: AtomicU8,
    /// A backend has begun its response.
    begun: AtomicBool,
    held: Mutex<Held>,
    /// Wakes the worker, the only task that waits for it, when the job was cancelled or ended by another task.
    stop: Notify,
    /// Wakes the worker when bytes were written.
    room: Notify,
}

/// What was produced and is not written.
#[derive(Default)]
struct Held {
    bytes: Segments,
    /// The head of the response, for its first frame.
    head: Option<ResponseHead>,
    /// The head is sent even if there are no bytes.
    head_is_due: bool,
    /// Response bytes written: the offset of the next frame.
    written: u64,
    terminal: Option<(FromAgent, OnWritten)>,
    /// It is queued for its turn at the pump.
    is_queued: bool,
    /// Bytes held in addition to the guaranteed part.
    borrowed: usize,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.head_is_due && self.terminal.is_none()
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

    /// Whether the first chunk carries the head of the response.
    pub fn carries_heads(&self) -> bool {
        self.0.outbox.carries_heads()
    }

    /// Whether the worker should go on.
    pub fn is_running(&self) -> bool {
        self.phase() == RUNNING
    }

    /// Ready when the job was cancelled, or ended by another task than its worker. Only the worker may wait for it.
    pub async fn stopped(&self) {
        while self.is_running() {
            self.0.stop.notified().await;
        }
    }

    /// Records that a backend has begun its response, which may have used tokens, whatever happens later.
    pub fn begin_answer(&self) {
        self.0.begun.store(true, Ordering::Relaxed);
    }

    /// Whether a backend has begun its response.
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Sets the head of the response for its first frame, if the connection carries heads. To be called before any byte.
    pub fn set_head(&self, head: ResponseHead) {
        if self.carries_heads() {
            self.held().head = Some(head);
        }
    }

    /// Response bytes written to the connection so far.
    pub fn written(&self) -> u64 {
        self.held().written
    }

    /// Appends as many response bytes as there is room for, and returns their number. They are sent by [`Self::send`], or
    /// earlier if bytes are already queued.
    pub fn append(&self, bytes: &[u8]) -> usize {
        let mut held = self.held();
        if !self.is_running() {
            // The bytes are not needed: the worker is about to stop.
            return bytes.len();
        }
        let own = GUARANTEED.saturating_sub(held.bytes.len()).min(bytes.len());
        let wanted = (bytes.len() - own).min(MOST.saturating_sub(held.bytes.len() + own));
        let borrowed = self.0.outbox.borrow_spare(wanted);
        held.borrowed += borrowed;
        let taken = own + borrowed;
        held.bytes.append(bytes.get(..taken).unwrap_or_default());
        taken
    }

    /// Sends the appended bytes: at once on an idle line, else in the job's turn.
    pub fn send(&self) {
        self.send_held(self.held());
    }

    /// Requires the head of the response to be sent even if the response has no bytes.
    pub fn need_head(&self) {
        let mut held = self.held();
        held.head_is_due = held.head.is_some();
    }

    /// Waits until there is room for bytes. Only the worker may call it, after [`Self::send`].
    pub async fn room(&self) {
        loop {
            let written = self.0.room.notified();
            let is_full = {
                let held = self.held();
                held.bytes.len() >= GUARANTEED
            };
            if !is_full {
                return;
            }
            written.await;
        }
    }

    /// Ends the job with its terminal frame, after the appended bytes, and stops its worker. `written` is called when that
    /// frame is written, and not at all if it is never written. False: the job has ended or was cancelled before, and
    /// nothing changes.
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

    /// Writes the held bytes at once if the line is idle and they fit into one frame. Otherwise queues the job.
    fn send_held(&self, mut held: MutexGuard<'_, Held>) {
        if held.is_queued || held.is_empty() {
            return;
        }
        if held.bytes.len() <= MAX_CHUNK && self.0.outbox.try_write(|out| self.append_frames(&mut held, out)) {
            return;
        }
        held.is_queued = true;
        drop(held);
        self.0.outbox.queue(self.clone());
    }

    /// The job's turn: appends its next frames. True if more frames are left for another turn.
    pub(super) fn append_next(&self, out: &mut FrameBuffer) -> bool {
        let mut held = self.held();
        self.append_frames(&mut held, out);
        held.is_queued = !held.is_empty();
        held.is_queued
    }

    /// Appends a frame of bytes, and the terminal frame if no bytes are left.
    fn append_frames(&self, held: &mut Held, out: &mut FrameBuffer) {
        if !held.bytes.is_empty() || held.head_is_due {
            let bytes = held.bytes.pop();
            match held.head.take() {
                Some(head) => chunk::append_first(out, self.0.job, &head, &bytes),
                None => self.0.outbox.encoding().append(out, self.0.job, held.written, &bytes),
            }
            held.head_is_due = false;
            held.written += bytes.len() as u64;
            let borrowed = held.bytes.len().saturating_sub(GUARANTEED).min(held.borrowed);
            self.0.outbox.return_spare(held.borrowed - borrowed);
            held.borrowed = borrowed;
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

    fn cancel(&self) {
        let mut held = self.held();
        self.0.phase.store(CANCELLED, Ordering::Release);
        self.0.outbox.return_spare(held.borrowed);
        let (written, dropped) = (held.written, std::mem::take(&mut *held));
        held.written = written;
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
    /// The stream of the job's bytes.
    pub fn stream(&self) -> &JobStream {
        &self.stream
    }

    /// Releases a job that has ended and whose last frames are written, without a cancel.
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
