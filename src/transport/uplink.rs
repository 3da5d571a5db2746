//! The bounded way of frames from workers, router and heartbeat to the pump.
//!
//! Response bytes and last frames need room in a byte budget before they are queued, so a coordinator that reads slowly
//! holds back the backends instead of filling memory. Control frames need none: they have a bounded queue of their own.
//! Each chunk is encoded once, by its worker, into the
//! very frame that the pump writes, as JSON or as a binary frame: whichever the handshake agreed on.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::chunk::{self, Encoding};
use super::control::{self, ControlQueue, ControlSender};
use super::frame::Frame;
use super::lease::JobLease;
use crate::messages::ids::{Generation, JobId};
use crate::messages::wire::{Extension, Extensions, FromAgent, ResponseHead};

/// Encoded bytes of chunks that may wait for the pump.
const BUDGET: usize = 4 * 1024 * 1024;
/// The most response bytes in one frame: it stays under 64 KiB, which every WebSocket library takes by default.
pub const MAX_CHUNK: usize = 32 * 1024;
/// Room for a job's last frame with what hangs on it.
const LAST_FRAME: u32 = 1024;
/// Room for the largest chunk frame.
const FULL_FRAME: u32 = (MAX_CHUNK.div_ceil(3) * 4 + 256) as u32;

/// The pump is gone: the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub struct LinkGone;

/// Why a chunk was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// No room in the budget now.
    #[error("no room")]
    Full,
    /// The connection has ended.
    #[error(transparent)]
    Gone(#[from] LinkGone),
}

/// Where frames of one connection go. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Uplink {
    generation: Generation,
    agreed: Extensions,
    encoding: Encoding,
    control: ControlSender,
    data: mpsc::UnboundedSender<Data>,
    budget: Arc<Semaphore>,
}

/// The pump's end of an uplink.
pub struct Downstream {
    pub(super) control: ControlQueue,
    pub(super) data: mpsc::UnboundedReceiver<Data>,
}

/// What waits in order behind the response bytes.
pub(super) enum Data {
    /// So many bytes of a response; the permit is given back when they are in the pump's buffer.
    Chunk { frame: Vec<u8>, bytes: usize, lease: JobLease, room: OwnedSemaphorePermit },
    /// A job's last frame.
    Terminal(Terminal),
    /// Our close frame: the last one of the connection.
    Close { code: u16, reason: &'static str },
}

/// A job's last frame. The pump encodes it, since it alone knows how many bytes went before.
pub(super) struct Terminal {
    frame: FromAgent,
    pub(super) lease: JobLease,
    /// To be called as the frame is written. It is not if it never is.
    pub(super) written: Box<dyn FnOnce() + Send>,
    /// None where it was made from outside, which happens once a job at the end of its agent or its pool.
    _room: Option<Room>,
}

impl Terminal {
    /// The frame with the bytes counted that went before it.
    pub(super) fn frame(&mut self) -> Frame {
        if let FromAgent::JobError(error) = &mut self.frame {
            error.tokens_emitted = self.lease.relayed();
        }
        text(&self.frame)
    }
}

/// Room in the budget, granted.
pub struct Room(OwnedSemaphorePermit);

impl Uplink {
    /// An uplink that uses what was `agreed` on, and the pump's end of it.
    #[expect(clippy::disallowed_methods, reason = "bounded by the budget")]
    pub fn new(generation: Generation, agreed: Extensions) -> (Self, Downstream) {
        let (control, control_end) = control::queue();
        let (data, data_end) = mpsc::unbounded_channel();
        let budget = Arc::new(Semaphore::new(BUDGET));
        let encoding = Encoding::of(agreed);
        (
            Self { generation, agreed, encoding, control, data, budget },
            Downstream { control: control_end, data: data_end },
        )
    }

    /// The connection it belongs to.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What was agreed on for the connection.
    pub fn agreed(&self) -> Extensions {
        self.agreed
    }

    /// Whether a job's first chunk carries the head of the response: the extension `endpoints` was agreed on.
    pub fn carries_heads(&self) -> bool {
        self.agreed.contains(Extension::Endpoints)
    }

    /// Room for one full chunk, if there is now.
    pub fn try_room(&self) -> Result<Room, NotSent> {
        match Arc::clone(&self.budget).try_acquire_many_owned(FULL_FRAME) {
            Ok(permit) => Ok(Room(permit)),
            Err(_) => Err(NotSent::Full),
        }
    }

    /// Queues a job's next chunk, of at most [`MAX_CHUNK`] bytes, if there is room now.
    pub fn try_chunk(&self, job: JobId, lease: &JobLease, bytes: &[u8]) -> Result<(), NotSent> {
        let size = u32::try_from(self.encoding.size(job, bytes)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.budget).try_acquire_many_owned(size).map_err(|_| NotSent::Full)?;
        Ok(self.queue(job, lease, bytes, room)?)
    }

    /// Waits for room for one full chunk. First come, first served.
    pub async fn room(&self) -> Result<Room, LinkGone> {
        self.acquire(FULL_FRAME).await
    }

    /// Waits for room for a job's last frame.
    pub async fn last_room(&self) -> Result<Room, LinkGone> {
        self.acquire(LAST_FRAME).await
    }

    async fn acquire(&self, size: u32) -> Result<Room, LinkGone> {
        Arc::clone(&self.budget).acquire_many_owned(size).await.map(Room).map_err(|_| LinkGone)
    }

    /// Queues a job's next chunk, of at most [`MAX_CHUNK`] bytes, into room that was granted; what it does not need is
    /// given back.
    pub fn chunk(&self, room: Room, job: JobId, lease: &JobLease, bytes: &[u8]) -> Result<(), LinkGone> {
        let Room(mut permit) = room;
        if let Some(spare) = permit.num_permits().checked_sub(self.encoding.size(job, bytes)) {
            drop(permit.split(spare));
        }
        self.queue(job, lease, bytes, permit)
    }

    /// Queues a job's first chunk, which may be empty, with the head of its response. Only where the connection carries
    /// heads.
    pub fn first_chunk(
        &self,
        room: Room,
        job: JobId,
        lease: &JobLease,
        head: &ResponseHead,
        bytes: &[u8],
    ) -> Result<(), LinkGone> {
        let Room(mut room) = room;
        if let Some(spare) = room.num_permits().checked_sub(chunk::first_size(job, head, bytes)) {
            drop(room.split(spare));
        }
        lease.add_queued(bytes.len());
        let frame = chunk::first_frame(job, head, bytes);
        self.push(frame, bytes.len(), lease, room)
    }

    fn queue(&self, job: JobId, lease: &JobLease, bytes: &[u8], room: OwnedSemaphorePermit) -> Result<(), LinkGone> {
        let frame = self.encoding.frame(job, lease.add_queued(bytes.len()), bytes);
        self.push(frame, bytes.len(), lease, room)
    }

    fn push(&self, frame: Vec<u8>, bytes: usize, lease: &JobLease, room: OwnedSemaphorePermit) -> Result<(), LinkGone> {
        let chunk = Data::Chunk { frame, bytes, lease: lease.clone(), room };
        self.data.send(chunk).map_err(|_| LinkGone)
    }

    /// Queues a job's last frame, behind its chunks, and calls `written` as the pump writes it, on the pump's thread. The
    /// caller has claimed the job's end.
    pub fn terminal(
        &self,
        lease: &JobLease,
        frame: FromAgent,
        room: Option<Room>,
        written: impl FnOnce() + Send + 'static,
    ) -> Result<(), LinkGone> {
        let terminal = Terminal { frame, lease: lease.clone(), written: Box::new(written), _room: room };
        self.data.send(Data::Terminal(terminal)).map_err(|_| LinkGone)
    }

    /// Queues a control frame: it overtakes all response bytes. Capabilities and heartbeats replace the one of their kind
    /// that still waits.
    pub fn control(&self, frame: &FromAgent) -> Result<(), LinkGone> {
        self.control.push(frame)
    }

    /// Queues our close frame behind everything that waits.
    pub fn close(&self, code: u16, reason: &'static str) -> Result<(), LinkGone> {
        self.data.send(Data::Close { code, reason }).map_err(|_| LinkGone)
    }
}

/// The text frame of a message.
pub(crate) fn text(message: &impl Serialize) -> Frame {
    // Plain data with string keys always serializes.
    Frame::Text(serde_json::to_vec(message).unwrap_or_default().into())
}
