//! A bounded channel for the answer of a job, from the session that receives it to the HTTP response, on another thread.
//!
//! The base protocol has no flow control, so the bytes that wait for a slow client are bounded here: if the relay is full,
//! the session cancels the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::messages::wire::{ErrorCode, ResponseHead, Tokens};

/// The cost of a waiting item in addition to its bytes, so that many tiny chunks are bounded too.
const ITEM_COST: usize = 64;

/// The end of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer is complete.
    Done(Tokens),
    /// The agent reported an error.
    Failed {
        /// Its code.
        code: ErrorCode,
        /// The agent's message, bounded.
        message: String,
    },
    /// The client did not keep up.
    Overflowed,
    /// The agent's frames can't be read.
    Garbled,
    /// The agent's session ended before the job was sent to the agent.
    Unsent,
    /// The agent's session ended first.
    Lost,
    /// The deadline passed, and the agent did not report it.
    Late,
}

/// An item of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// The head of the response, as the first item, if the agent sent it.
    Head(ResponseHead),
    /// Bytes of the answer, not empty.
    Chunk(Bytes),
    /// The end. There are no items after it.
    End(End),
}

/// The sending end, which the session owns. Its drop sends [`End::Unsent`], or [`End::Lost`] if the job was sent.
pub(crate) struct Outlet {
    items: mpsc::UnboundedSender<Relayed>,
    waiting: Arc<AtomicUsize>,
    /// Whether the job was sent to the agent. Written before `items` is dropped, read after.
    sent: Arc<AtomicBool>,
    limit: usize,
}

/// The receiving end, which the HTTP response owns.
pub(crate) struct Inlet {
    items: mpsc::UnboundedReceiver<Relayed>,
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

/// A relay that holds up to `limit` bytes.
#[expect(clippy::disallowed_methods, reason = "bounded in bytes by Outlet::push")]
pub(crate) fn relay(limit: usize) -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let sent = Arc::new(AtomicBool::new(false));
    let outlet = Outlet { items: sender, waiting: waiting.clone(), sent: sent.clone(), limit };
    (outlet, Inlet { items: receiver, waiting, sent })
}

impl Outlet {
    /// Records that the job is being sent to the agent, which may run it from now on.
    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    /// Sends the head. May be called once, before any chunk.
    pub(crate) fn begin(&self, head: ResponseHead) {
        // An error means that the receiving end was dropped, and needs no handling.
        let _ = self.items.send(Relayed::Head(head));
    }

    /// Sends bytes. Never waits. An empty relay accepts a chunk of any size.
    pub(crate) fn push(&self, chunk: Bytes) -> Result<(), PushError> {
        if chunk.is_empty() {
            return Ok(());
        }
        let cost = chunk.len() + ITEM_COST;
        let before = self.waiting.fetch_add(cost, Ordering::Relaxed);
        if before > 0 && before + cost > self.limit {
            return Err(PushError::Full);
        }
        self.items.send(Relayed::Chunk(chunk)).map_err(|_| PushError::Gone)
    }

    /// Sends the end.
    pub(crate) fn finish(self, end: End) {
        // An error means that the receiving end was dropped, and needs no handling.
        let _ = self.items.send(Relayed::End(end));
    }
}

impl Inlet {
    /// The next item. After the end every item is an end.
    pub(crate) async fn next(&mut self) -> Relayed {
        let item = match self.items.recv().await {
            Some(item) => item,
            None if self.sent.load(Ordering::Acquire) => Relayed::End(End::Lost),
            None => Relayed::End(End::Unsent),
        };
        if let Relayed::Chunk(chunk) = &item {
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
        let (outlet, mut inlet) = relay(1 << 20);
        outlet.push(chunk(3)).unwrap();
        outlet.push(chunk(0)).unwrap();
        outlet.push(chunk(5)).unwrap();
        outlet.finish(End::Done(Tokens::default()));
        assert_eq!(inlet.next().await, Relayed::Chunk(chunk(3)));
        assert_eq!(inlet.next().await, Relayed::Chunk(chunk(5)));
        assert_eq!(inlet.next().await, Relayed::End(End::Done(Tokens::default())));
    }

    #[actix_rt::test]
    async fn a_dropped_outlet_is_a_lost_job_if_the_job_was_sent() {
        let (outlet, mut inlet) = relay(10);
        drop(outlet);
        assert_eq!(inlet.next().await, Relayed::End(End::Unsent));
        let (outlet, mut inlet) = relay(10);
        outlet.mark_sent();
        drop(outlet);
        assert_eq!(inlet.next().await, Relayed::End(End::Lost));
    }

    #[actix_rt::test]
    async fn the_waiting_bytes_are_bounded_and_reading_makes_room() {
        let (outlet, mut inlet) = relay(1000);
        outlet.push(chunk(900)).unwrap();
        inlet.next().await;
        outlet.push(chunk(900)).unwrap();
        assert_eq!(outlet.push(chunk(900)), Err(PushError::Full));
    }

    #[test]
    fn tiny_chunks_are_bounded_too() {
        let (outlet, _inlet) = relay(1000);
        let taken = (0..1000).take_while(|_| outlet.push(chunk(1)).is_ok()).count();
        assert_eq!(taken, 1000 / (1 + ITEM_COST));
    }

    #[test]
    fn a_push_fails_after_the_inlet_was_dropped() {
        let (outlet, inlet) = relay(1000);
        drop(inlet);
        assert_eq!(outlet.push(chunk(1)), Err(PushError::Gone));
    }
}
