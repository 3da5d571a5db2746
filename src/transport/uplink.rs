//! The bounded way of frames from workers, router and heartbeat to the pump.
//!
//! Response bytes need room in a byte budget before they are queued, so a coordinator that reads slowly holds back the
//! backends instead of filling memory. Control frames need none: there are few of them
//! by construction (a heartbeat every 15 s, capabilities when they change). Each chunk is encoded once, by its worker, into the
//! very frame that the pump writes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::frame::{Frame, Role, build_text, encode};
use super::lease::JobLease;
use crate::messages::ids::{Generation, JobId};
use crate::messages::wire::FromAgent;

/// Encoded bytes of chunks that may wait for the pump.
const BUDGET: usize = 4 * 1024 * 1024;
/// The most response bytes in one frame: it stays under 64 KiB, which every WebSocket library takes by default.
pub const MAX_CHUNK: usize = 32 * 1024;
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
    control: mpsc::UnboundedSender<Frame>,
    data: mpsc::UnboundedSender<Data>,
    budget: Arc<Semaphore>,
}

/// The pump's end of an uplink.
pub struct Downstream {
    pub(super) control: mpsc::UnboundedReceiver<Frame>,
    pub(super) data: mpsc::UnboundedReceiver<Data>,
}

/// What waits in order behind the response bytes.
pub(super) enum Data {
    /// Bytes of a response; the permit is given back when they are in the pump's buffer.
    Chunk { frame: BytesMut, lease: JobLease, room: OwnedSemaphorePermit },
    /// A job's last frame, and what is to be done as it is written. It is not if it never is.
    Terminal { frame: BytesMut, lease: JobLease, written: Box<dyn FnOnce() + Send> },
    /// Our close frame: the last one of the connection.
    Close { code: u16, reason: &'static str },
}

/// Room for one full chunk, granted.
pub struct Room(OwnedSemaphorePermit);

impl Uplink {
    /// An uplink and the pump's end of it.
    #[expect(clippy::disallowed_methods, reason = "chunks are bounded by the budget, terminal frames by the ledger")]
    pub fn new(generation: Generation) -> (Self, Downstream) {
        let (control, control_end) = mpsc::unbounded_channel();
        let (data, data_end) = mpsc::unbounded_channel();
        let budget = Arc::new(Semaphore::new(BUDGET));
        (Self { generation, control, data, budget }, Downstream { control: control_end, data: data_end })
    }

    /// The connection it belongs to.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Queues a chunk of at most [`MAX_CHUNK`] bytes if there is room now.
    pub fn try_chunk(&self, job: JobId, lease: &JobLease, bytes: &[u8]) -> Result<(), NotSent> {
        let payload = ChunkText::new(job, bytes);
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.budget).try_acquire_many_owned(size).map_err(|_| NotSent::Full)?;
        Ok(self.queue(&payload, lease, room)?)
    }

    /// Waits for room for one full chunk. First come, first served.
    pub async fn room(&self) -> Result<Room, LinkGone> {
        let permit = Arc::clone(&self.budget).acquire_many_owned(FULL_FRAME).await.map_err(|_| LinkGone)?;
        Ok(Room(permit))
    }

    /// Queues a chunk of at most [`MAX_CHUNK`] bytes into room that was granted; what it does not need is given back.
    pub fn chunk(&self, room: Room, job: JobId, lease: &JobLease, bytes: &[u8]) -> Result<(), LinkGone> {
        let payload = ChunkText::new(job, bytes);
        let Room(mut permit) = room;
        if let Some(spare) = permit.num_permits().checked_sub(payload.len()) {
            drop(permit.split(spare));
        }
        self.queue(&payload, lease, permit)
    }

    fn queue(&self, payload: &ChunkText<'_>, lease: &JobLease, room: OwnedSemaphorePermit) -> Result<(), LinkGone> {
        let frame = build_text(payload.len(), |out| payload.write(out));
        lease.add_relayed(payload.bytes.len());
        self.data.send(Data::Chunk { frame, lease: lease.clone(), room }).map_err(|_| LinkGone)
    }

    /// Queues a job's last frame, behind its chunks, and calls `written` as the pump writes it, on the pump's thread. The
    /// caller has claimed the job's end.
    pub fn terminal(
        &self,
        lease: &JobLease,
        frame: &FromAgent,
        written: impl FnOnce() + Send + 'static,
    ) -> Result<(), LinkGone> {
        let mut bytes = BytesMut::new();
        encode(&mut bytes, Role::Client, &text(frame));
        let terminal = Data::Terminal { frame: bytes, lease: lease.clone(), written: Box::new(written) };
        self.data.send(terminal).map_err(|_| LinkGone)
    }

    /// Queues a control frame: it overtakes all response bytes.
    pub fn control(&self, frame: &FromAgent) -> Result<(), LinkGone> {
        self.control.send(text(frame)).map_err(|_| LinkGone)
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

/// The text of a `job_chunk`, written without intermediate copies.
struct ChunkText<'a> {
    job: JobId,
    bytes: &'a [u8],
}

impl<'a> ChunkText<'a> {
    const HEAD: &'static [u8] = br#"{"type":"job_chunk","job_id":""#;
    const MIDDLE: &'static [u8] = br#"","data":""#;
    const TAIL: &'static [u8] = br#""}"#;

    fn new(job: JobId, bytes: &'a [u8]) -> Self {
        Self { job, bytes }
    }

    fn len(&self) -> usize {
        let base64 = self.bytes.len().div_ceil(3) * 4;
        Self::HEAD.len() + self.job.as_str().len() + Self::MIDDLE.len() + base64 + Self::TAIL.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(Self::HEAD);
        out.extend_from_slice(self.job.as_str().as_bytes());
        out.extend_from_slice(Self::MIDDLE);
        let at = out.len();
        out.resize(at + self.bytes.len().div_ceil(3) * 4, 0);
        let space = out.get_mut(at..).unwrap_or_default();
        let written = STANDARD.encode_slice(self.bytes, space);
        debug_assert!(written.is_ok_and(|len| at + len == out.len()), "base64 fills its space");
        out.extend_from_slice(Self::TAIL);
    }
}
