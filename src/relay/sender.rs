//! Appends one job's response bytes to its stream, and drops the copy for a retry.

use super::job_stream::JobStream;
use crate::messages::jobs::Job;
use crate::messages::wire::ResponseHead;

/// Appends the bytes of one job.
pub(super) struct ChunkSender<'a> {
    stream: &'a JobStream,
    /// For a retry. Dropped with the first response byte.
    copy: &'a mut Option<Job>,
}

impl<'a> ChunkSender<'a> {
    pub(super) fn new(stream: &'a JobStream, copy: &'a mut Option<Job>) -> Self {
        Self { stream, copy }
    }

    pub(super) fn carries_heads(&self) -> bool {
        self.stream.carries_heads()
    }

    /// Sets the head of the response. To be called once, before any byte is appended.
    pub(super) fn begin(&mut self, status: u16, content_type: &str) {
        self.stream.set_head(ResponseHead::new(status, content_type));
    }

    /// Appends as many bytes as there is room for, and returns their number.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        *self.copy = None;
        self.stream.append(bytes)
    }

    /// Sends the appended bytes.
    pub(super) fn send(&self) {
        self.stream.send();
    }

    /// Waits until there is room.
    pub(super) async fn room(&self) {
        self.stream.room().await;
    }

    /// Appends any number of bytes, and waits for room. The last ones are sent with the end of the job.
    pub(super) async fn append_all(&mut self, bytes: &[u8]) {
        self.stream.need_head();
        let mut rest = bytes;
        loop {
            let taken = self.append(rest);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
            self.send();
            self.room().await;
        }
    }
}
