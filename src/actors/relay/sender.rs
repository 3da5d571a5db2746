//! One job's chunks on their way to the uplink. Knows nothing of what is in them.

use futures_util::future::LocalBoxFuture;

use super::Spare;
use crate::messages::ids::JobId;
use crate::messages::wire::ResponseHead;
use crate::transport::lease::JobLease;
use crate::transport::uplink::{LinkGone, MAX_CHUNK, NotSent, Room, Uplink};

/// Sends the chunks of one job, the first with the head of the response where the connection carries heads.
pub(super) struct ChunkSender<'a> {
    id: JobId,
    lease: &'a JobLease,
    uplink: &'a Uplink,
    /// Waits for the first chunk.
    head: Option<ResponseHead>,
    /// For another try: of no use any more once something of an answer went up.
    spare: &'a mut Option<Spare>,
}

impl<'a> ChunkSender<'a> {
    pub(super) fn new(id: JobId, lease: &'a JobLease, uplink: &'a Uplink, spare: &'a mut Option<Spare>) -> Self {
        Self { id, lease, uplink, head: None, spare }
    }

    pub(super) fn carries_heads(&self) -> bool {
        self.uplink.carries_heads()
    }

    /// To be called once, before anything is sent, with the head of the response.
    pub(super) fn begin(&mut self, status: u16, content_type: &str) {
        if self.carries_heads() {
            self.head = Some(ResponseHead::new(status, content_type));
        }
    }

    /// Waits for room for one chunk.
    pub(super) fn room(&self) -> LocalBoxFuture<'a, Result<Room, LinkGone>> {
        Box::pin(self.uplink.room())
    }

    /// Sends a chunk, of at most [`MAX_CHUNK`] bytes, if there is room now.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> Result<(), NotSent> {
        *self.spare = None;
        if self.head.is_none() {
            return self.uplink.try_chunk(self.id, self.lease, bytes);
        }
        let room = self.uplink.try_room()?;
        Ok(self.send_into(room, bytes)?)
    }

    /// Sends a chunk, of at most [`MAX_CHUNK`] bytes, into room that was granted.
    pub(super) fn send_into(&mut self, room: Room, bytes: &[u8]) -> Result<(), LinkGone> {
        *self.spare = None;
        match self.head.take() {
            Some(head) => self.uplink.first_chunk(room, self.id, self.lease, &head, bytes),
            None => self.uplink.chunk(room, self.id, self.lease, bytes),
        }
    }

    /// Sends bytes of any number as there is room for them; the head also where there are none.
    pub(super) async fn send_all(&mut self, bytes: &[u8]) -> Result<(), LinkGone> {
        let mut rest = bytes;
        while !rest.is_empty() || self.head.is_some() {
            let (piece, later) = rest.split_at(rest.len().min(MAX_CHUNK));
            let room = self.uplink.room().await?;
            self.send_into(room, piece)?;
            rest = later;
        }
        Ok(())
    }
}
