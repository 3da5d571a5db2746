//! One job's bytes on their way to its stream. Knows nothing of what is in them.

use super::chunk::MAX_CHUNK;
use super::job_stream::JobStream;
use crate::messages::jobs::Job;
use crate::messages::wire::ResponseHead;

/// Sends the bytes of one job.
pub(super) struct ChunkSender<'a> {
    stream: &'a JobStream,
    /// For another try. Dropped once there are bytes of an answer.
    copy: &'a mut Option<Job>,
}

impl<'a> ChunkSender<'a> {
    pub(super) fn new(stream: &'a JobStream, copy: &'a mut Option<Job>) -> Self {
        Self { stream, copy }
    }

    pub(super) fn carries_heads(&self) -> bool {
        self.stream.carries_heads()
    }

    /// To be called once, before anything is sent, with the head of the response.
    pub(super) fn begin(&mut self, status: u16, content_type: &str) {
        self.stream.set_head(ResponseHead::new(status, content_type));
    }

    /// Sends bytes, at most [`MAX_CHUNK`], as soon as there is room for them, and empties the buffer.
    pub(super) async fn send(&mut self, buffer: &mut Vec<u8>) {
        *self.copy = None;
        let len = buffer.len();
        while !self.stream.send(buffer) {
            self.stream.room(len).await;
        }
    }

    async fn hold(&mut self, buffer: &mut Vec<u8>) {
        *self.copy = None;
        let len = buffer.len();
        while !self.stream.hold(buffer) {
            self.stream.room(len).await;
        }
    }

    /// Sends bytes of any number. The last ones, or the head where there are none, are sent with the end of the job.
    pub(super) async fn send_all(&mut self, bytes: &[u8]) {
        self.stream.need_head();
        self.send_but_last(bytes).await;
    }

    /// Sends bytes of any number. The last ones are sent with the next ones, or with the end of the job.
    pub(super) async fn send_but_last(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.chunks(MAX_CHUNK).peekable();
        while let Some(piece) = pieces.next() {
            let mut buffer = piece.to_vec();
            match pieces.peek() {
                Some(_) => self.send(&mut buffer).await,
                None => self.hold(&mut buffer).await,
            }
        }
    }
}
