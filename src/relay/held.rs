//! What a job's stream holds: the bytes that are still needed, the head of the response, and the terminal frame.

use tokio::time::Instant;

use super::allowance::Allowance;
use super::chunk;
use super::outbox::Outbox;
use super::segments::Segments;
use crate::core::session::delivery::Delivery;
use crate::messages::ids::JobId;
use crate::messages::wire::{FromAgent, ResponseHead};
use crate::transport::websocket::frame_buffer::FrameBuffer;

/// Called when the job has ended: on the thread that writes the terminal frame, before the peer can see it. Where written bytes
/// are kept, it is called at once, because the frame may be written much later.
pub(crate) type OnEnd = Box<dyn FnOnce() + Send>;

/// What was produced and is still needed.
pub(super) struct Held {
    /// Where the job's frames go now.
    pub(super) outbox: Outbox,
    pub(super) delivery: Delivery,
    /// The bytes that are not acknowledged yet.
    pub(super) bytes: Segments,
    /// The head of the response, for each frame that begins with its first byte.
    pub(super) head: Option<ResponseHead>,
    /// Whether the head is sent even if the response has no bytes.
    needs_head: bool,
    /// Whether a frame with the head and no bytes is to be written.
    pub(super) head_is_due: bool,
    terminal: Option<FromAgent>,
    on_end: Option<OnEnd>,
    /// Whether the job is in the queue of the pump.
    pub(super) is_queued: bool,
    /// When the first byte was appended.
    pub(super) first_byte: Option<Instant>,
}

impl Held {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            delivery: Delivery::new(outbox.keeps()),
            outbox,
            bytes: Segments::default(),
            head: None,
            needs_head: false,
            head_is_due: false,
            terminal: None,
            on_end: None,
            is_queued: false,
            first_byte: None,
        }
    }

    /// Whether there is nothing to write now.
    pub(super) fn is_written(&self) -> bool {
        self.delivery.unwritten() == 0 && !self.head_is_due && !self.delivery.terminal_is_due()
    }

    /// The number of bytes that are written and kept.
    pub(super) fn kept(&self) -> usize {
        (self.delivery.written() - self.delivery.acknowledged()) as usize
    }

    /// Appends the next frame of the response.
    pub(super) fn append_chunk(&mut self, job: JobId, allowance: &Allowance, out: &mut FrameBuffer) {
        let bytes = self.bytes.from(self.kept());
        self.encode(job, bytes, out);
        let freed = self.wrote(bytes.len());
        self.free(allowance, freed);
    }

    /// Appends a frame of bytes that were never held. Only for a stream that keeps nothing and has nothing else to write.
    pub(super) fn pass_chunk(&mut self, job: JobId, bytes: &[u8], out: &mut FrameBuffer) {
        self.encode(job, bytes, out);
        self.delivery.produce(bytes.len() as u64);
        self.wrote(bytes.len());
    }

    /// Appends these bytes as the next frame, with the head if they begin with the response's first byte.
    fn encode(&self, job: JobId, bytes: &[u8], out: &mut FrameBuffer) {
        let (encoding, offset) = (self.outbox.encoding(), self.delivery.written());
        match &self.head {
            // A later connection may carry no heads.
            Some(head) if offset == 0 && self.outbox.carries_heads() => encoding.append_first(out, job, head, bytes),
            _ => encoding.append(out, job, offset, bytes),
        }
    }

    /// A chunk was written. Returns how many bytes need no longer be held.
    fn wrote(&mut self, bytes: usize) -> u64 {
        self.head_is_due = false;
        if !self.delivery.keeps() {
            self.head = None;
        }
        self.delivery.wrote(bytes as u64)
    }

    /// Appends the terminal frame, if it is next.
    pub(super) fn append_terminal(&mut self, out: &mut FrameBuffer) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| self.delivery.terminal_is_due()) {
            chunk::append_terminal(out, terminal);
            self.delivery.wrote_terminal();
            if let Some(on_end) = self.on_end.take() {
                on_end();
            }
        }
    }

    /// Sends the head of the response even if it has no bytes.
    pub(super) fn need_head(&mut self) {
        self.needs_head = self.head.is_some() && self.delivery.produced() == 0;
        self.head_is_due = self.needs_head;
    }

    /// The response has ended with this frame.
    pub(super) fn end(&mut self, terminal: FromAgent, on_end: OnEnd) {
        self.terminal = Some(counted(terminal, &self.delivery));
        self.delivery.end();
        if self.delivery.keeps() {
            on_end();
        } else {
            self.on_end = Some(on_end);
        }
    }

    /// Puts another terminal frame in the place of the one that is held.
    pub(super) fn replace_terminal(&mut self, terminal: FromAgent) {
        self.terminal = self.terminal.take().map(|_| counted(terminal, &self.delivery));
    }

    /// Forgets the bytes before `offset`. False if there are none, or if so many were not written.
    pub(super) fn acknowledge(&mut self, offset: u64, allowance: &Allowance) -> bool {
        let freed = self.delivery.acknowledge(offset);
        if freed > 0 {
            self.head = None;
            self.free(allowance, freed);
            self.bytes.shrink();
        }
        freed > 0
    }

    /// Goes on from `offset` on another connection. If the bytes from there on are not held, only a terminal frame can follow.
    /// Returns the outbox of the earlier connection.
    pub(super) fn attach(&mut self, outbox: Outbox, offset: u64, allowance: &Allowance) -> Outbox {
        self.is_queued = false;
        if self.delivery.resume(offset).is_err() {
            self.delivery.give_up();
            self.free(allowance, self.bytes.len() as u64);
            (self.head, self.needs_head) = (None, false);
        }
        self.head_is_due = self.needs_head && self.delivery.produced() == 0;
        std::mem::replace(&mut self.outbox, outbox)
    }

    /// Forgets everything. What is returned is for the caller to drop, without the lock.
    pub(super) fn cancel(&mut self, allowance: &Allowance) -> impl Sized + use<> {
        allowance.give_back(allowance.borrowed(self.bytes.len()));
        self.delivery.cancel();
        (self.needs_head, self.head_is_due) = (false, false);
        (std::mem::take(&mut self.bytes), self.head.take(), self.terminal.take(), self.on_end.take())
    }

    /// Forgets the first bytes.
    fn free(&mut self, allowance: &Allowance, bytes: u64) {
        let before = allowance.borrowed(self.bytes.len());
        self.bytes.discard(bytes as usize);
        allowance.give_back(before - allowance.borrowed(self.bytes.len()));
    }
}

/// A terminal frame with the response bytes before it counted in it.
fn counted(mut terminal: FromAgent, delivery: &Delivery) -> FromAgent {
    if let FromAgent::JobError(error) = &mut terminal {
        error.tokens_emitted = delivery.produced();
    }
    terminal
}
