//! Control frames that wait for the pump: the newest capabilities, the newest heartbeat, and a bounded number of answers to
//! jobs that have no slot.
//!
//! What a peer does not take must not pile up here. An older offer or heartbeat is of no use once there is a newer one. Each
//! answer has a job that the peer sent, so the pump reads no further while [`MAX_ANSWERS`] wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::frame::Frame;
use super::uplink::{LinkGone, text};
use crate::messages::wire::FromAgent;

/// Answers that may wait before the pump stops reading.
const MAX_ANSWERS: usize = 1024;

/// Where control frames come from. Cheap to clone, for any thread.
#[derive(Clone)]
pub(super) struct ControlSender(Arc<Shared>);

/// The pump's end. Dropping it tells the senders that the connection is gone.
pub(super) struct ControlQueue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Tells the pump that a frame waits.
    ready: Notify,
    /// Tells the pump's reader that an answer was taken.
    room: Notify,
}

#[derive(Default)]
struct Waiting {
    capabilities: Option<Frame>,
    heartbeat: Option<Frame>,
    answers: VecDeque<Frame>,
    /// The pump has ended.
    is_gone: bool,
}

/// An empty queue, both ends.
pub(super) fn queue() -> (ControlSender, ControlQueue) {
    let shared = Arc::<Shared>::default();
    (ControlSender(Arc::clone(&shared)), ControlQueue(shared))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, message: &FromAgent) -> Result<(), LinkGone> {
        let frame = text(message);
        let mut waiting = self.lock();
        if waiting.is_gone {
            return Err(LinkGone);
        }
        match message {
            FromAgent::Capabilities(_) => waiting.capabilities = Some(frame),
            FromAgent::Heartbeat(_) => waiting.heartbeat = Some(frame),
            _ => waiting.answers.push_back(frame),
        }
        self.ready.notify_one();
        Ok(())
    }
}

impl ControlSender {
    /// Queues a frame. Capabilities and heartbeats replace the one of their kind that waits.
    pub(super) fn push(&self, message: &FromAgent) -> Result<(), LinkGone> {
        self.0.push(message)
    }
}

impl ControlQueue {
    /// Queues the answer to a job.
    pub(super) fn answer(&self, message: &FromAgent) {
        // The queue is not gone as long as it is used.
        let _ = self.0.push(message);
    }

    /// The frame to write next, if one waits.
    pub(super) fn pop(&self) -> Option<Frame> {
        let mut waiting = self.0.lock();
        if let Some(frame) = waiting.capabilities.take().or_else(|| waiting.heartbeat.take()) {
            return Some(frame);
        }
        let answer = waiting.answers.pop_front()?;
        self.0.room.notify_one();
        Some(answer)
    }

    /// Waits until a frame was queued since it waited last.
    pub(super) async fn ready(&self) {
        self.0.ready.notified().await;
    }

    /// Waits until there is room for one more answer.
    pub(super) async fn room(&self) {
        while self.0.lock().answers.len() >= MAX_ANSWERS {
            self.0.room.notified().await;
        }
    }
}

impl Drop for ControlQueue {
    fn drop(&mut self) {
        *self.0.lock() = Waiting { is_gone: true, ..Waiting::default() };
    }
}
