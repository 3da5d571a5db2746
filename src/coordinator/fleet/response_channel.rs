//! A bounded channel for the response of a job, from the session that receives it to the HTTP response, on another thread.
//!
//! The base protocol has no flow control, so the bytes that wait for a slow client are bounded here: if the channel is full,
//! the session cancels the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::messages::wire::{ErrorCode, ResponseHead, Tokens};

/// The cost of a waiting item in addition to its bytes, so that many tiny chunks are bounded too.
const ITEM_COST: usize = 64;

/// How a response ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResponseEnd {
    /// The response is complete.
    Done(Tokens),
    /// The agent reported an error.
    Failed {
        /// Its code.
        code: ErrorCode,
        /// The agent's message, bounded.
        message: String,
    },
    /// The client did not keep up.
    SlowClient,
    /// The agent's frames can't be read.
    Unreadable,
    /// The agent's session ended before the job was sent to the agent.
    NotSent,
    /// The agent's session ended first.
    AgentLost,
    /// The deadline passed, and the agent did not report it.
    Deadline,
}

/// A part of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResponsePart {
    /// The head of the response, as the first item, if the agent sent it.
    Head(ResponseHead),
    /// Bytes of the response, not empty.
    Chunk(Bytes),
    /// The end. There are no items after it.
    End(ResponseEnd),
}

/// The sending end, which the session owns. Its drop sends [`ResponseEnd::NotSent`], or [`ResponseEnd::AgentLost`] if the job
/// was sent.
pub(crate) struct ResponseSender {
    items: mpsc::UnboundedSender<ResponsePart>,
    waiting: Arc<AtomicUsize>,
    /// Whether the job was sent to the agent. Written before `items` is dropped, read after.
    sent: Arc<AtomicBool>,
    limit: usize,
}

/// The receiving end, which the HTTP response owns.
pub(crate) struct ResponseReceiver {
    items: mpsc::UnboundedReceiver<ResponsePart>,
    waiting: Arc<AtomicUsize>,
    sent: Arc<AtomicBool>,
}

/// Why a chunk was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The waiting bytes would be over the limit.
    Full,
    /// The receiving end was dropped.
    Gone,
}

/// A channel that holds up to `limit` bytes.
#[expect(clippy::disallowed_methods, reason = "bounded in bytes by ResponseSender::push")]
pub(crate) fn response_channel(limit: usize) -> (ResponseSender, ResponseReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let sent = Arc::new(AtomicBool::new(false));
    let sender = ResponseSender { items: sender, waiting: waiting.clone(), sent: sent.clone(), limit };
    (sender, ResponseReceiver { items: receiver, waiting, sent })
}

impl ResponseSender {
    /// Records that the job is being sent to the agent, which may run it from now on.
    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    /// Sends the head. May be called once, before any chunk.
    pub(crate) fn begin(&self, head: ResponseHead) {
        // An error means that the receiving end was dropped, and needs no handling.
        let _ = self.items.send(ResponsePart::Head(head));
    }

    /// Sends bytes. Never waits. An empty channel accepts a chunk of any size.
    pub(crate) fn push(&self, chunk: Bytes) -> Result<(), PushError> {
        if chunk.is_empty() {
            return Ok(());
        }
        let cost = chunk.len() + ITEM_COST;
        let before = self.waiting.fetch_add(cost, Ordering::Relaxed);
        if before > 0 && before + cost > self.limit {
            return Err(PushError::Full);
        }
        self.items.send(ResponsePart::Chunk(chunk)).map_err(|_| PushError::Gone)
    }

    /// Sends the end.
    pub(crate) fn finish(self, end: ResponseEnd) {
        // An error means that the receiving end was dropped, and needs no handling.
        let _ = self.items.send(ResponsePart::End(end));
    }
}

impl ResponseReceiver {
    /// The next item. After the end every item is an end.
    pub(crate) async fn next(&mut self) -> ResponsePart {
        let item = match self.items.recv().await {
            Some(item) => item,
            None if self.sent.load(Ordering::Acquire) => ResponsePart::End(ResponseEnd::AgentLost),
            None => ResponsePart::End(ResponseEnd::NotSent),
        };
        if let ResponsePart::Chunk(chunk) = &item {
            self.waiting.fetch_sub(chunk.len() + ITEM_COST, Ordering::Relaxed);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(len: usize) -> Bytes {
        vec![b'x'; len].into()
    }

    #[actix_rt::test]
    async fn chunks_and_the_end_are_received_in_order() {
        let (sender, mut receiver) = response_channel(1 << 20);
        sender.push(chunk(3)).unwrap();
        sender.push(chunk(0)).unwrap();
        sender.push(chunk(5)).unwrap();
        sender.finish(ResponseEnd::Done(Tokens::default()));
        assert_eq!(receiver.next().await, ResponsePart::Chunk(chunk(3)));
        assert_eq!(receiver.next().await, ResponsePart::Chunk(chunk(5)));
        assert_eq!(receiver.next().await, ResponsePart::End(ResponseEnd::Done(Tokens::default())));
    }

    #[actix_rt::test]
    async fn a_dropped_sender_is_a_lost_job_if_the_job_was_sent() {
        let (sender, mut receiver) = response_channel(10);
        drop(sender);
        assert_eq!(receiver.next().await, ResponsePart::End(ResponseEnd::NotSent));
        let (sender, mut receiver) = response_channel(10);
        sender.mark_sent();
        drop(sender);
        assert_eq!(receiver.next().await, ResponsePart::End(ResponseEnd::AgentLost));
    }

    #[actix_rt::test]
    async fn the_waiting_bytes_are_bounded_and_reading_makes_room() {
        let (sender, mut receiver) = response_channel(1000);
        sender.push(chunk(900)).unwrap();
        receiver.next().await;
        sender.push(chunk(900)).unwrap();
        assert_eq!(sender.push(chunk(900)), Err(PushError::Full));
    }

    #[test]
    fn tiny_chunks_are_bounded_too() {
        let (sender, _receiver) = response_channel(1000);
        let taken = (0..1000).take_while(|_| sender.push(chunk(1)).is_ok()).count();
        assert_eq!(taken, 1000 / (1 + ITEM_COST));
    }

    #[test]
    fn a_push_fails_after_the_receiver_was_dropped() {
        let (sender, receiver) = response_channel(1000);
        drop(receiver);
        assert_eq!(sender.push(chunk(1)), Err(PushError::Gone));
    }
}
