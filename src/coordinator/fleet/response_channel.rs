//! A bounded channel for the response of a job, from the session that receives it to the HTTP response, on another thread.
//!
//! The base protocol has no flow control, so the bytes that wait for a slow client are bounded here: if the channel is full,
//! the session cancels the job.
//!
//! With the extension `resume` there is: the channel counts the bytes that the client's side took over, which the session
//! acknowledges to the agent. It also tells the client's side while the job waits for an agent that has no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

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
    /// The agent has opened another session, and had sent no byte of the response.
    AgentRestarted,
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
    /// Bytes that the receiving end took over and the sending end has not counted. The receiving end adds, the sending end
    /// takes them away.
    taken: Arc<AtomicU64>,
    /// Whether the job waits for an agent that has no connection.
    agent_away: watch::Sender<bool>,
    limit: usize,
}

/// The receiving end, which the HTTP response owns.
pub(crate) struct ResponseReceiver {
    items: mpsc::UnboundedReceiver<ResponsePart>,
    waiting: Arc<AtomicUsize>,
    sent: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    agent_away: watch::Receiver<bool>,
    /// Bytes of the last item. They count as taken over when the next item is requested.
    in_hand: u64,
    /// Bytes taken over since [`Self::owes_acknowledgement`] returned true.
    unreported: u64,
}

/// What a receiving end waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PartOrLoss {
    /// The next item.
    Part(ResponsePart),
    /// The connection of the agent was lost, and the job waits for its return. Reported once each time.
    AgentAway,
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
    let taken = Arc::new(AtomicU64::new(0));
    let (away_sender, away) = watch::channel(false);
    let sender = ResponseSender {
        items: sender,
        waiting: waiting.clone(),
        sent: sent.clone(),
        taken: taken.clone(),
        agent_away: away_sender,
        limit,
    };
    let receiver =
        ResponseReceiver { items: receiver, waiting, sent, taken, agent_away: away, in_hand: 0, unreported: 0 };
    (sender, receiver)
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

    /// The bytes that the receiving end took over since the last call.
    pub(crate) fn newly_taken(&self) -> u64 {
        self.taken.swap(0, Ordering::Relaxed)
    }

    /// Whether the receiving end was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.items.is_closed()
    }

    /// Reports whether the job waits for an agent that has no connection.
    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.agent_away.send_replace(waiting);
    }

    /// Sends the end.
    pub(crate) fn finish(self, end: ResponseEnd) {
        // An error means that the receiving end was dropped, and needs no handling.
        let _ = self.items.send(ResponsePart::End(end));
    }
}

impl ResponseReceiver {
    /// The next item. After the end every item is an end. A call that was dropped before it returned lost no item.
    pub(crate) async fn next(&mut self) -> ResponsePart {
        self.take_over();
        let item = self.items.recv().await;
        self.received(item)
    }

    /// The next item, or the loss of the agent's connection if that comes first.
    pub(crate) async fn next_or_away(&mut self) -> PartOrLoss {
        self.take_over();
        loop {
            tokio::select! {
                biased;
                item = self.items.recv() => return PartOrLoss::Part(self.received(item)),
                Ok(()) = self.agent_away.changed() => {
                    if *self.agent_away.borrow_and_update() {
                        return PartOrLoss::AgentAway;
                    }
                }
            }
        }
    }

    /// The next item. `None` if none comes while the job waits for its agent for this time.
    pub(crate) async fn next_or_waited(&mut self, time: Duration) -> Option<ResponsePart> {
        self.take_over();
        tokio::select! {
            biased;
            item = self.items.recv() => Some(self.received(item)),
            () = waits_for_agent(&mut self.agent_away, time) => None,
        }
    }

    /// Whether so many bytes were taken over since the last time that it returned true.
    pub(crate) fn owes_acknowledgement(&mut self, least: u64) -> bool {
        self.take_over();
        let owes = self.unreported >= least;
        if owes {
            self.unreported = 0;
        }
        owes
    }

    fn received(&mut self, item: Option<ResponsePart>) -> ResponsePart {
        let item = match item {
            Some(item) => item,
            None if self.sent.load(Ordering::Acquire) => ResponsePart::End(ResponseEnd::AgentLost),
            None => ResponsePart::End(ResponseEnd::NotSent),
        };
        if let ResponsePart::Chunk(chunk) = &item {
            self.waiting.fetch_sub(chunk.len() + ITEM_COST, Ordering::Relaxed);
            self.in_hand = chunk.len() as u64;
        }
        item
    }

    fn take_over(&mut self) {
        let bytes = std::mem::take(&mut self.in_hand);
        self.unreported += bytes;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Returns after the agent was away for this time.
async fn waits_for_agent(agent_away: &mut watch::Receiver<bool>, time: Duration) {
    loop {
        if agent_away.wait_for(|away| *away).await.is_err() {
            // The sending end is gone, so an item comes.
            return std::future::pending().await;
        }
        if tokio::time::timeout(time, agent_away.wait_for(|away| !*away)).await.is_err() {
            return;
        }
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

    #[actix_rt::test]
    async fn bytes_are_taken_over_when_the_next_item_is_requested() {
        let (sender, mut receiver) = response_channel(1000);
        sender.push(chunk(5)).unwrap();
        sender.push(chunk(7)).unwrap();
        receiver.next().await;
        assert_eq!(sender.newly_taken(), 0);
        receiver.next().await;
        assert_eq!((sender.newly_taken(), sender.newly_taken()), (5, 0));
        assert!(receiver.owes_acknowledgement(12) && !receiver.owes_acknowledgement(1));
        assert_eq!(sender.newly_taken(), 7);
    }

    #[actix_rt::test]
    async fn the_loss_of_the_agent_is_reported_once_each_time_and_after_what_it_sent() {
        let (sender, mut receiver) = response_channel(1000);
        sender.push(chunk(1)).unwrap();
        sender.set_waiting(true);
        assert_eq!(receiver.next_or_away().await, PartOrLoss::Part(ResponsePart::Chunk(chunk(1))));
        assert_eq!(receiver.next_or_away().await, PartOrLoss::AgentAway);
        sender.set_waiting(false);
        sender.push(chunk(2)).unwrap();
        assert_eq!(receiver.next_or_away().await, PartOrLoss::Part(ResponsePart::Chunk(chunk(2))));
        sender.set_waiting(true);
        assert_eq!(receiver.next_or_away().await, PartOrLoss::AgentAway);
        drop(sender);
        assert_eq!(receiver.next_or_away().await, PartOrLoss::Part(ResponsePart::End(ResponseEnd::NotSent)));
    }

    #[actix_rt::test]
    async fn the_wait_for_an_agent_is_counted_from_its_loss_and_ends_with_its_return() {
        tokio::time::pause();
        let (sender, mut receiver) = response_channel(1000);
        let (short, long) = (Duration::from_secs(9), Duration::from_secs(10));
        assert!(tokio::time::timeout(long, receiver.next_or_waited(short)).await.is_err(), "the agent is there");
        sender.set_waiting(true);
        assert!(tokio::time::timeout(short, receiver.next_or_waited(long)).await.is_err());
        assert_eq!(tokio::time::timeout(long, receiver.next_or_waited(short)).await, Ok(None));
        sender.set_waiting(false);
        assert!(tokio::time::timeout(long, receiver.next_or_waited(short)).await.is_err());
        sender.set_waiting(true);
        drop(sender);
        let end = ResponsePart::End(ResponseEnd::NotSent);
        assert_eq!(receiver.next_or_waited(Duration::ZERO).await, Some(end));
    }

    #[test]
    fn a_push_fails_after_the_receiver_was_dropped() {
        let (sender, receiver) = response_channel(1000);
        drop(receiver);
        assert_eq!(sender.push(chunk(1)), Err(PushError::Gone));
    }
}
