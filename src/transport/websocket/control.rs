//! Control frames that wait for the pump: the newest capabilities, the newest heartbeat, a bounded number of refusals of jobs,
//! and, in the queue of these, the announcement of a drain.
//!
//! What a peer does not take must not pile up here. An older offer or heartbeat is of no use once there is a newer one. Each
//! refusal answers a job that the peer sent, so the pump reads no further while [`MAX_ANSWERS`] wait. A drain is announced once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::codec::Frame;
use crate::messages::wire::FromAgent;

/// Answers that may wait before the pump stops reading.
const MAX_ANSWERS: usize = 1024;

/// The connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub struct LinkGone;

/// The control frames that wait.
#[derive(Default)]
pub(super) struct ControlQueue {
    waiting: Mutex<Waiting>,
    /// Whether a frame waits. Read without the lock before each write of response bytes, because control frames go first.
    has_frames: AtomicBool,
    /// Wakes the pump's reader when an answer was taken.
    room: Notify,
}

#[derive(Default)]
struct Waiting {
    capabilities: Option<Frame>,
    heartbeat: Option<Frame>,
    answers: VecDeque<Frame>,
    /// The connection has ended.
    is_gone: bool,
}

impl ControlQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame. Capabilities and heartbeats replace the one of their kind that waits.
    pub(super) fn push(&self, message: &FromAgent) -> Result<(), LinkGone> {
        // Plain data with string keys always serializes.
        let frame = Frame::Text(Bytes::from(serde_json::to_vec(message).unwrap_or_default()));
        let mut waiting = self.lock();
        if waiting.is_gone {
            return Err(LinkGone);
        }
        match message {
            FromAgent::Capabilities(_) => waiting.capabilities = Some(frame),
            FromAgent::Heartbeat(_) => waiting.heartbeat = Some(frame),
            _ => waiting.answers.push_back(frame),
        }
        self.has_frames.store(true, Ordering::Release);
        Ok(())
    }

    /// The frame to write next, if one waits.
    pub(super) fn pop(&self) -> Option<Frame> {
        let mut waiting = self.lock();
        if let Some(frame) = waiting.capabilities.take().or_else(|| waiting.heartbeat.take()) {
            return Some(frame);
        }
        let Some(answer) = waiting.answers.pop_front() else {
            self.has_frames.store(false, Ordering::Release);
            return None;
        };
        self.room.notify_one();
        Some(answer)
    }

    /// Whether a frame waits. Also true between the last frame and the next [`Self::pop`], which finds none.
    pub(super) fn has_frames(&self) -> bool {
        self.has_frames.load(Ordering::Acquire)
    }

    /// Waits until there is room for one more answer.
    pub(super) async fn room(&self) {
        while self.lock().answers.len() >= MAX_ANSWERS {
            self.room.notified().await;
        }
    }

    /// The connection has ended: what waits is dropped, and nothing more is taken.
    pub(super) fn shut(&self) {
        *self.lock() = Waiting { is_gone: true, ..Waiting::default() };
    }
}
