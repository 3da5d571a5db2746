//! The outbox of a connection: the jobs that have bytes to send, in the order of their turns.
//!
//! The pump takes frames from it while the line has room. Each job gives one frame in its turn, so all jobs get the same
//! share. The outbox bounds memory: each job may hold [`GUARANTEED`] bytes whatever the others hold, and up to [`MOST`]
//! while all jobs together hold at most [`SPARE`] in addition to their guaranteed parts.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chunk::{Encoding, MAX_CHUNK};
use super::job_stream::{JobHandle, JobStream};
use crate::messages::ids::{Generation, JobId};
use crate::messages::wire::{Extension, Extensions, FromAgent};
use crate::transport::frame::Frame;
use crate::transport::frame_buffer::FrameBuffer;
use crate::transport::line::{Line, LinkGone, Next, Source};

/// Bytes that each job may hold, whatever the others hold: one full frame.
pub const GUARANTEED: usize = MAX_CHUNK;
/// Bytes that a job may hold at most.
pub const MOST: usize = 8 * MAX_CHUNK;
/// Bytes that all jobs together may hold in addition to their guaranteed parts.
const SPARE: usize = 4 * 1024 * 1024;

/// The outbox of one connection. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    generation: Generation,
    agreed: Extensions,
    encoding: Encoding,
    line: Arc<Line>,
    turns: Mutex<Turns>,
    /// The unused part of [`SPARE`].
    spare: AtomicUsize,
}

/// The order of writes.
#[derive(Default)]
struct Turns {
    /// Jobs that have something to write, each once.
    streams: VecDeque<JobStream>,
    /// Our close frame, to be sent when nothing else waits.
    close: Option<(u16, &'static str)>,
    /// The connection has ended: no job gets another turn.
    is_over: bool,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbox").field(&self.0.generation).finish()
    }
}

impl Outbox {
    /// An outbox for a connection with these agreed extensions.
    pub fn new(generation: Generation, agreed: Extensions, line: Arc<Line>) -> Self {
        let encoding = Encoding::of(agreed);
        let (turns, spare) = (Mutex::default(), AtomicUsize::new(SPARE));
        Self(Arc::new(Shared { generation, agreed, encoding, line, turns, spare }))
    }

    /// The generation of its connection.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// The extensions that were agreed on for the connection.
    pub fn agreed(&self) -> Extensions {
        self.0.agreed
    }

    /// Whether a job's first chunk carries the head of the response: the extension `endpoints` was agreed on.
    pub fn carries_heads(&self) -> bool {
        self.0.agreed.contains(Extension::Endpoints)
    }

    /// The stream of a new job, and the handle that cancels the job on drop.
    pub fn open(&self, job: JobId) -> (JobHandle, JobStream) {
        JobStream::new(job, self.clone())
    }

    /// Queues a control frame. It is sent before all response bytes.
    pub fn control(&self, message: &FromAgent) -> Result<(), LinkGone> {
        self.0.line.control(message)
    }

    /// Sends a close frame after everything that waits.
    pub fn close(&self, code: u16, reason: &'static str) -> Result<(), LinkGone> {
        let mut turns = self.turns();
        if turns.is_over {
            return Err(LinkGone);
        }
        turns.close = Some((code, reason));
        drop(turns);
        self.0.line.wake();
        Ok(())
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.0.encoding
    }

    /// Writes frames at once if the line is idle. False: it is not, and nothing was appended.
    pub(super) fn try_write(&self, append: impl FnOnce(&mut FrameBuffer)) -> bool {
        self.0.line.try_write(append)
    }

    /// Queues a job for a turn. The caller ensures that it is queued only once.
    pub(super) fn queue(&self, stream: JobStream) {
        let mut turns = self.turns();
        if !turns.is_over {
            turns.streams.push_back(stream);
            drop(turns);
            self.0.line.wake();
        }
    }

    /// Removes a job from the queue.
    pub(super) fn unqueue(&self, stream: &JobStream) {
        self.turns().streams.retain(|queued| !queued.is_same(stream));
    }

    /// Borrows up to `wanted` bytes from [`SPARE`], and returns their number.
    pub(super) fn borrow_spare(&self, wanted: usize) -> usize {
        let mut got = 0;
        let _ = self.0.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spare| {
            got = wanted.min(spare);
            (got > 0).then(|| spare - got)
        });
        got
    }

    /// Returns borrowed bytes.
    pub(super) fn return_spare(&self, bytes: usize) {
        if bytes > 0 {
            self.0.spare.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Outbox {
    fn append_next(&self, out: &mut FrameBuffer) -> Next {
        let mut turns = self.turns();
        let Some(stream) = turns.streams.pop_front() else {
            let Some((code, reason)) = turns.close.take() else { return Next::Nothing };
            out.push(&Frame::Close { code: Some(code), reason: reason.to_owned() });
            return Next::Closed;
        };
        drop(turns);
        if stream.append_next(out) {
            let mut turns = self.turns();
            if !turns.is_over {
                turns.streams.push_back(stream);
            }
        }
        Next::Appended
    }

    fn link_ended(&self) {
        let dropped = std::mem::replace(&mut *self.turns(), Turns { is_over: true, ..Turns::default() });
        drop(dropped);
    }
}
