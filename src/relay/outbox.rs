//! The outbox of a connection: the jobs that have bytes to send, in the order of their turns.
//!
//! The pump asks it for frames while the line has room, and each job in turn gives one frame, so no job gets less than its
//! share. What jobs hold is bounded by its [`Allowance`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allowance::Allowance;
use super::chunk::Encoding;
use super::job_stream::{JobHandle, JobStream};
use crate::messages::ids::{Generation, JobId};
use crate::messages::wire::{Extension, Extensions, FromAgent};
use crate::transport::websocket::codec::Frame;
use crate::transport::websocket::frame_buffer::FrameBuffer;
use crate::transport::websocket::line::{Line, LinkGone, Next, Source};

/// Where the jobs of one connection put their bytes. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    generation: Generation,
    agreed: Extensions,
    encoding: Encoding,
    line: Arc<Line>,
    turns: Mutex<Turns>,
    allowance: Allowance,
    /// No more response bytes are written.
    is_sealed: AtomicBool,
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
    /// An outbox for a connection on which these extensions were agreed. With `resume` its jobs share the allowance of all
    /// `sessions`.
    pub fn new(generation: Generation, agreed: Extensions, line: Arc<Line>, sessions: &Allowance) -> Self {
        let keeps = agreed.contains(Extension::Resume);
        let allowance = if keeps { sessions.clone() } else { Allowance::of_connection() };
        let (turns, is_sealed) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Shared { generation, agreed, encoding: Encoding::of(agreed), line, turns, allowance, is_sealed }))
    }

    /// The connection it belongs to.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// What was agreed on for the connection.
    pub fn agreed(&self) -> Extensions {
        self.0.agreed
    }

    /// Whether jobs keep what is written until it is acknowledged: the extension `resume` was agreed on.
    pub(crate) fn keeps(&self) -> bool {
        self.0.agreed.contains(Extension::Resume)
    }

    pub(super) fn allowance(&self) -> &Allowance {
        &self.0.allowance
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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

    /// Writes no more response bytes on this connection, and closes it.
    pub(crate) fn seal_and_close(&self, code: u16, reason: &'static str) -> Result<(), LinkGone> {
        self.0.is_sealed.store(true, Ordering::Release);
        let dropped = std::mem::take(&mut self.turns().streams);
        drop(dropped);
        self.close(code, reason)
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.0.encoding
    }

    /// Writes frames at once where the line is idle. False: it is not, and nothing was appended.
    pub(super) fn try_write(&self, append: impl FnOnce(&mut FrameBuffer)) -> bool {
        !self.0.is_sealed.load(Ordering::Acquire) && self.0.line.try_write(append)
    }

    /// Gives a job a turn. The caller sees to it that it has one at a time.
    pub(super) fn queue(&self, stream: JobStream) {
        let mut turns = self.turns();
        if !turns.is_over && !self.0.is_sealed.load(Ordering::Acquire) {
            turns.streams.push_back(stream);
            drop(turns);
            self.0.line.wake();
        }
    }

    /// Takes a job's turn away.
    pub(super) fn unqueue(&self, stream: &JobStream) {
        self.turns().streams.retain(|queued| !queued.is_same(stream));
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
        if stream.append_next(self, out) {
            let mut turns = self.turns();
            // Sealing sets its flag before it takes the lock.
            if !turns.is_over && !self.0.is_sealed.load(Ordering::Acquire) {
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
