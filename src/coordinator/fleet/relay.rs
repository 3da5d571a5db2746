//! A job's bytes on their way from the session that receives them to the HTTP response that sends them, which live on
//! different threads.
//!
//! The base protocol can't hold an agent back, so what a slow client leaves waiting is bounded here: the session is told
//! that the relay is full and cancels the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::messages::wire::{ErrorCode, ResponseHead};

/// What a waiting item costs beside its bytes, so that many tiny chunks are bounded too.
const ITEM_COST: usize = 64;

/// How a job ended, as far as its client is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All of the answer is there.
    Done,
    /// The agent says that it failed.
    Failed {
        /// Why.
        code: ErrorCode,
        /// The agent's words, bounded.
        message: String,
    },
    /// The client did not keep up.
    Overflowed,
    /// What the agent sent can't be read.
    Garbled,
    /// The agent's session ended before the job was sent to the agent.
    Unsent,
    /// The agent's session ended first.
    Lost,
    /// The deadline passed and the agent did not say so.
    Late,
}

/// What comes out of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// The head of the answer, before all else, if the agent tells it.
    Head(ResponseHead),
    /// Bytes of the answer, not empty.
    Chunk(Bytes),
    /// Nothing follows.
    End(End),
}

/// The session's end. Dropped without a word it says [`End::Unsent`], or [`End::Lost`] once the job was sent.
pub(crate) struct Outlet {
    items: mpsc::UnboundedSender<Relayed>,
    waiting: Arc<AtomicUsize>,
    /// Whether the job was sent to the agent. Written before `items` is dropped, read after.
    sent: Arc<AtomicBool>,
    limit: usize,
}

/// The response's end.
pub(crate) struct Inlet {
    items: mpsc::UnboundedReceiver<Relayed>,
    waiting: Arc<AtomicUsize>,
    sent: Arc<AtomicBool>,
}

/// Why a chunk was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// More than the limit is waiting already.
    Full,
    /// Nobody reads any more.
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
    /// The job is being sent to the agent: from now on it may be at work.
    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    /// Passes the head on. To be called once at most, before any bytes.
    pub(crate) fn begin(&self, head: ResponseHead) {
        // Nobody reads: then nobody needs to know.
        let _ = self.items.send(Relayed::Head(head));
    }

    /// Passes bytes on. Never waits. An idle relay takes a chunk of any size.
    pub(crate) fn push(&self, chunk: Bytes) -> Result<(), NotTaken> {
        if chunk.is_empty() {
            return Ok(());
        }
        let cost = chunk.len() + ITEM_COST;
        let before = self.waiting.fetch_add(cost, Ordering::Relaxed);
        if before > 0 && before + cost > self.limit {
            return Err(NotTaken::Full);
        }
        self.items.send(Relayed::Chunk(chunk)).map_err(|_| NotTaken::Gone)
    }

    /// Says how the job ended.
    pub(crate) fn finish(self, end: End) {
        // Nobody reads: then nobody needs to know.
        let _ = self.items.send(Relayed::End(end));
    }
}

impl Inlet {
    /// The next item. After an end there is another end for ever.
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
    async fn bytes_and_the_end_come_out_in_order() {
        let (outlet, mut inlet) = relay(1 << 20);
        outlet.push(chunk(3)).unwrap();
        outlet.push(chunk(0)).unwrap();
        outlet.push(chunk(5)).unwrap();
        outlet.finish(End::Done);
        assert_eq!(inlet.next().await, Relayed::Chunk(chunk(3)));
        assert_eq!(inlet.next().await, Relayed::Chunk(chunk(5)));
        assert_eq!(inlet.next().await, Relayed::End(End::Done));
    }

    #[actix_rt::test]
    async fn a_session_that_vanishes_loses_the_job_if_it_was_sent() {
        let (outlet, mut inlet) = relay(10);
        drop(outlet);
        assert_eq!(inlet.next().await, Relayed::End(End::Unsent));
        let (outlet, mut inlet) = relay(10);
        outlet.mark_sent();
        drop(outlet);
        assert_eq!(inlet.next().await, Relayed::End(End::Lost));
    }

    #[actix_rt::test]
    async fn what_waits_is_bounded_and_reading_makes_room() {
        let (outlet, mut inlet) = relay(1000);
        outlet.push(chunk(900)).unwrap();
        inlet.next().await;
        outlet.push(chunk(900)).unwrap();
        assert_eq!(outlet.push(chunk(900)), Err(NotTaken::Full));
    }

    #[test]
    fn tiny_chunks_are_bounded_too() {
        let (outlet, _inlet) = relay(1000);
        let taken = (0..1000).take_while(|_| outlet.push(chunk(1)).is_ok()).count();
        assert_eq!(taken, 1000 / (1 + ITEM_COST));
    }

    #[test]
    fn a_reader_that_left_is_noticed() {
        let (outlet, inlet) = relay(1000);
        drop(inlet);
        assert_eq!(outlet.push(chunk(1)), Err(NotTaken::Gone));
    }
}
