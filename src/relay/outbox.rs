//! The outbox of a connection: the jobs that have bytes to send, in the order of their turns.
//!
//! The pump asks it for frames while the line has room, and each job in turn gives one frame, so no job gets less than its
//! share. It bounds memory: each job may hold [`GUARANTEED`] bytes whatever the others do, and up to [`MOST`] as long as all
//! jobs together hold no more than 4 MiB beyond their guaranteed parts.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chunk::{Encoding, MAX_CHUNK};
use super::job_stream::{JobHandle, JobStream};
use crate::messages::ids::{Generation, JobId};
use crate::messages::wire::{Extension, Extensions, FromAgent};
use crate::transport::websocket::codec::Frame;
use crate::transport::websocket::frame_buffer::FrameBuffer;
use crate::transport::websocket::line::{Line, LinkGone, Next, Source};

/// Bytes that each job may hold, whatever the others hold: one full frame.
pub(crate) const GUARANTEED: usize = MAX_CHUNK;
/// Bytes that a job may hold at most.
pub(crate) const MOST: usize = 8 * MAX_CHUNK;
/// Bytes that all jobs together may hold beyond their guaranteed parts.
const SPARE: usize = 4 * 1024 * 1024;

/// Where the jobs of one connection put their bytes. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    generation: Generation,
    agreed: Extensions,
    encoding: Encoding,
    line: Arc<Line>,
    turns: Mutex<Turns>,
    /// What is left of [`SPARE`].
    spare: AtomicUsize,
}

/// Who is to be written next.
#[derive(Default)]
struct Turns {
    /// Jobs that have something to write, each once.
    streams: VecDeque<JobStream>,
    /// Our close frame, once nothing else waits.
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
    /// An outbox for a connection on which these extensions were agreed.
    pub fn new(generation: Generation, agreed: Extensions, line: Arc<Line>) -> Self {
        let encoding = Encoding::of(agreed);
        let (turns, spare) = (Mutex::default(), AtomicUsize::new(SPARE));
        Self(Arc::new(Shared { generation, agreed, encoding, line, turns, spare }))
    }

    /// The connection it belongs to.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// What was agreed on for the connection.
    pub fn agreed(&self) -> Extensions {
        self.0.agreed
    }

    /// Whether a job's first chunk carries the head of the response: the extension `endpoints` was agreed on.
    pub fn carries_heads(&self) -> bool {
        self.0.agreed.contains(Extension::Endpoints)
    }

    /// The way of a new job's bytes, and the handle that cancels the job on drop.
    pub fn open(&self, job: JobId) -> (JobHandle, JobStream) {
        JobStream::new(job, self.clone())
    }

    /// Queues a control frame: it overtakes all response bytes.
    pub fn control(&self, message: &FromAgent) -> Result<(), LinkGone> {
        self.0.line.control(message)
    }

    /// Sends a close frame behind everything that waits.
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

    /// Writes frames at once where the line is idle. False: it is not, and nothing was appended.
    pub(super) fn try_write(&self, append: impl FnOnce(&mut FrameBuffer)) -> bool {
        self.0.line.try_write(append)
    }

    /// Gives a job a turn. The caller sees to it that it has one at a time.
    pub(super) fn queue(&self, stream: JobStream) {
        let mut turns = self.turns();
        if !turns.is_over {
            turns.streams.push_back(stream);
            drop(turns);
            self.0.line.wake();
        }
    }

    /// Takes a job's turn away.
    pub(super) fn unqueue(&self, stream: &JobStream) {
        self.turns().streams.retain(|queued| !queued.is_same(stream));
    }

    /// Takes up to `wanted` bytes of what jobs may hold beyond their guaranteed parts.
    pub(super) fn borrow_spare(&self, wanted: usize) -> usize {
        let mut got = 0;
        let _ = self.0.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spare| {
            got = wanted.min(spare);
            (got > 0).then(|| spare - got)
        });
        got
    }

    /// Gives back what was borrowed.
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
