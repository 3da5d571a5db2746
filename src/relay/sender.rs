//! One job's bytes on their way to its stream. Knows nothing of what is in them.

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

    /// Takes bytes as there is room for them. They are sent once they are enough for a frame, by [`Self::flush`], or with the
    /// end of the job.
    pub(super) async fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            *self.copy = None;
            let taken = self.stream.append(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if taken == 0 {
                self.stream.room().await;
            }
        }
    }

    /// Notes how many events the backend has sent.
    pub(super) fn note_events(&self, events: u64) {
        self.stream.progress().note_events(events);
    }

    /// Sends what was appended. To be called before the worker waits for more.
    pub(super) fn flush(&self) {
        self.stream.flush();
    }

    /// Takes the bytes of a whole answer, or a part of it. Its head is sent also where there are no bytes.
    pub(super) async fn append_whole(&mut self, bytes: &[u8]) {
        self.stream.need_head();
        self.append(bytes).await;
    }
}
