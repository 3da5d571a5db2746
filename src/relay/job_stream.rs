//! The bytes of one job on their way to the coordinator, its terminal frame, and its phase.
//!
//! The worker appends the bytes of the answer. Once they are enough for a frame, or the worker has no more for now, they are
//! encoded and written on the worker's thread if the line is idle; else they are held, and the job waits for its turn at the
//! pump. Bytes are encoded as they are written, for the connection that exists then.
//!
//! Where `resume` was agreed on, bytes are held until the coordinator acknowledges them, and the terminal frame until the job
//! is dropped: a later connection goes on where the coordinator wants ([`JobStream::attach`]). How far a response has come is
//! in its [`Delivery`].
//!
//! - STREAM-1: at most one terminal frame is written to a connection, behind all bytes that were appended before the end.
//! - STREAM-2: nothing of the job is written after its terminal frame, nor after a cancel.
//! - STREAM-3: what is held is bounded by the [`Allowance`].
//! - STREAM-4: at any time one connection gets frames of the job.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::allowance::Allowance;
use super::backend_progress::BackendProgress;
use super::chunk::MAX_CHUNK;
use super::held::{Held, OnEnd};
use super::outbox::Outbox;
use crate::core::session::delivery::Delivery;
use crate::messages::ids::JobId;
use crate::messages::wire::{FromAgent, ResponseHead};
use crate::transport::websocket::frame_buffer::FrameBuffer;

/// Bytes that are enough for a frame: more are not waited for.
const ENOUGH: usize = MAX_CHUNK - 4 * 1024;

/// The job is being worked.
const RUNNING: u8 = 0;
/// It has a terminal frame.
const ENDED: u8 = 1;
/// Nothing more of it is sent.
const CANCELLED: u8 = 2;

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
    /// Whether heads were agreed on for the connection that the job came on. A later connection may carry none.
    carries_heads: bool,
    allowance: Allowance,
    /// Changed with `held` locked.
    phase: AtomicU8,
    progress: BackendProgress,
    held: Mutex<Held>,
    /// An offset up to which bytes were acknowledged while another thread had `held` locked, or 0. The lock is held while a frame is
    /// written. The thread that acknowledges does not wait for that: the owner of the lock takes over this offset after it has
    /// given the lock up.
    acknowledged: AtomicU64,
    /// Wakes the worker, which alone waits, when the job was cancelled or ended by another.
    stop: Notify,
    /// Wakes the worker when less is held.
    room: Notify,
}

impl fmt::Debug for JobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobStream").field(&self.0.job).finish()
    }
}

impl JobStream {
    pub(super) fn new(job: JobId, outbox: Outbox) -> (JobHandle, Self) {
        let (phase, progress) = (AtomicU8::new(RUNNING), BackendProgress::default());
        let (allowance, carries_heads) = (outbox.allowance().clone(), outbox.carries_heads());
        let (held, acknowledged) = (Mutex::new(Held::new(outbox)), AtomicU64::new(0));
        let (stop, room) = (Notify::new(), Notify::new());
        let stream =
            Self(Arc::new(Shared { job, carries_heads, allowance, phase, progress, held, acknowledged, stop, room }));
        (JobHandle { stream: stream.clone(), is_released: false }, stream)
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        self.0.job
    }

    /// Whether the connection that the job came on carries heads of responses.
    pub fn carries_heads(&self) -> bool {
        self.0.carries_heads
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

    /// How far a backend has come with the response.
    pub(crate) fn progress(&self) -> &BackendProgress {
        &self.0.progress
    }

    /// Sets the head of the response for its first frame, where the connection carries heads. To be called before any byte.
    pub fn set_head(&self, head: ResponseHead) {
        let mut held = self.held();
        if self.carries_heads() && self.is_running() {
            held.head = Some(head);
        }
    }

    /// How far the response has come.
    pub(crate) fn delivery(&self) -> Delivery {
        self.held().delivery
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
        if held.is_written() && !held.delivery.keeps() && bytes.len() >= ENOUGH {
            let (frame, outbox) = (bytes.get(..MAX_CHUNK).unwrap_or(bytes), held.outbox.clone());
            if outbox.try_write(|out| held.pass_chunk(self.0.job, frame, out)) {
                return frame.len();
            }
        }
        let kept = self.keep(&mut held, bytes);
        if held.delivery.unwritten() >= ENOUGH as u64 && !self.try_write(&mut held) {
            self.queue(held);
        }
        kept
    }

    /// Takes as many of these bytes as there is room for: those of one frame, or more where the job waits for its turn anyway.
    fn keep(&self, held: &mut Held, bytes: &[u8]) -> usize {
        let allowance = &self.0.allowance;
        let most = if held.is_queued { allowance.most() } else { held.kept() + MAX_CHUNK };
        let fitting = bytes.len().min(most.min(allowance.most()).saturating_sub(held.bytes.len()));
        let wanted = allowance.borrowed(held.bytes.len() + fitting) - allowance.borrowed(held.bytes.len());
        let kept = fitting - (wanted - allowance.borrow(wanted));
        held.bytes.push(bytes.get(..kept).unwrap_or_default());
        held.delivery.produce(kept as u64);
        kept
    }

    /// Sends what was appended: at once where the line is idle, else in the job's turn. To be called before the worker waits
    /// for more bytes: a stream that waits keeps no large buffer.
    pub fn flush(&self) {
        let mut held = self.held();
        if held.is_written() || self.try_write(&mut held) {
            held.bytes.shrink();
        } else {
            self.queue(held);
        }
    }

    /// Sends the head of the response even if it has no bytes.
    pub fn need_head(&self) {
        let mut held = self.held();
        if self.is_running() {
            held.need_head();
        }
    }

    /// Waits until there is room for more bytes. To be called by the worker alone, after [`Self::append`] took none.
    pub async fn room(&self) {
        loop {
            let changed = self.0.room.notified();
            let held = self.held().bytes.len();
            if held < self.0.allowance.own() {
                return;
            }
            changed.await;
        }
    }

    /// Ends the job with its terminal frame, behind what was appended, and stops its worker. `on_end` is called as that frame is
    /// written, or at once where written bytes are kept; it is not called if the frame is never written. False: the job has
    /// ended or was cancelled before, and nothing changes.
    pub fn end(&self, terminal: FromAgent, on_end: OnEnd) -> bool {
        let mut held = self.held();
        if !self.is_running() {
            return false;
        }
        self.0.phase.store(ENDED, Ordering::Release);
        held.end(terminal, on_end);
        if !self.try_write(&mut held) {
            self.queue(held);
        }
        self.0.stop.notify_one();
        true
    }

    /// The coordinator has taken over all bytes before `offset`: they are forgotten. An offset that is not beyond the last one, or
    /// beyond what was written, is ignored.
    pub(crate) fn acknowledge(&self, offset: u64) {
        self.0.acknowledged.fetch_max(offset, Ordering::Relaxed);
        self.take_acknowledged();
    }

    /// Forgets what was acknowledged, unless the lock is taken: then its owner does it.
    fn take_acknowledged(&self) {
        // Either the thread that acknowledges finds the lock free, or the owner of the lock finds the offset.
        fence(Ordering::SeqCst);
        while self.0.acknowledged.load(Ordering::Relaxed) > 0 {
            let mut held = match self.0.held.try_lock() {
                Ok(held) => held,
                Err(TryLockError::Poisoned(held)) => held.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.forget_acknowledged(&mut held);
        }
    }

    fn forget_acknowledged(&self, held: &mut Held) {
        if self.0.acknowledged.load(Ordering::Relaxed) == 0 {
            return;
        }
        let offset = self.0.acknowledged.swap(0, Ordering::Relaxed);
        if held.acknowledge(offset, &self.0.allowance) {
            self.0.room.notify_one();
        }
    }

    /// Goes on from `offset` on another connection. From now on only that one gets frames of the job. If the bytes from there on
    /// are not held, only a terminal frame can follow.
    pub(crate) fn attach(&self, outbox: Outbox, offset: u64) {
        let mut held = self.held();
        if self.phase() == CANCELLED {
            return;
        }
        let old = held.attach(outbox, offset, &self.0.allowance);
        self.0.room.notify_one();
        self.queue(held);
        old.unqueue(self);
    }

    /// Puts another terminal frame in the place of that of a job that has ended.
    pub(crate) fn replace_terminal(&self, terminal: FromAgent) {
        self.held().replace_terminal(terminal);
    }

    /// Writes what is held at once if the line is idle. False if it is not, or if the job is in the queue of the pump.
    fn try_write(&self, held: &mut Held) -> bool {
        if held.is_queued {
            return false;
        }
        let outbox = held.outbox.clone();
        outbox.try_write(|out| {
            while !held.is_written() {
                self.append_frames(held, out);
            }
        })
    }

    /// Gives the job a turn at the pump, if it has something to write and has none.
    fn queue(&self, mut held: Locked<'_>) {
        if !held.is_queued && !held.is_written() {
            held.is_queued = true;
            let outbox = held.outbox.clone();
            drop(held);
            outbox.queue(self.clone());
        }
    }

    /// The job's turn on a connection: appends its next frames. True where more is left for another turn there.
    pub(super) fn append_next(&self, outbox: &Outbox, out: &mut FrameBuffer) -> bool {
        let mut held = self.held();
        if !held.outbox.is_same(outbox) {
            return false;
        }
        self.append_frames(&mut held, out);
        // The worker may have nothing more for a long time.
        held.bytes.shrink();
        held.is_queued = !held.is_written();
        held.is_queued
    }

    /// Appends a frame of the bytes held, and the terminal frame where that is all.
    fn append_frames(&self, held: &mut Held, out: &mut FrameBuffer) {
        if held.delivery.unwritten() > 0 || held.head_is_due {
            held.append_chunk(self.0.job, &self.0.allowance, out);
            self.0.room.notify_one();
        }
        held.append_terminal(out);
    }

    fn cancel(&self) {
        let mut held = self.held();
        self.0.phase.store(CANCELLED, Ordering::Release);
        let outbox = std::mem::take(&mut held.is_queued).then(|| held.outbox.clone());
        let dropped = held.cancel(&self.0.allowance);
        drop(held);
        drop(dropped);
        if let Some(outbox) = outbox {
            outbox.unqueue(self);
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

    fn held(&self) -> Locked<'_> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_acknowledged(&mut held);
        Locked { held, _behind: Behind(self) }
    }
}

/// What a stream holds, locked.
struct Locked<'a> {
    held: MutexGuard<'a, Held>,
    /// Dropped after the lock was given up.
    _behind: Behind<'a>,
}

impl Deref for Locked<'_> {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Held {
        &mut self.held
    }
}

/// Takes over what was acknowledged while the lock was taken.
struct Behind<'a>(&'a JobStream);

impl Drop for Behind<'_> {
    fn drop(&mut self) {
        self.0.take_acknowledged();
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
