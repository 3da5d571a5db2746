//! The right of a job to go on, shared by those who have a part in it.
//!
//! The ledger's entry holds the [`JobGrip`]; dropping it, for whatever reason, cancels the job: the worker stops, and
//! no frame of the job leaves any more. The worker, its pool and the job's frames hold the [`JobLease`].
//!
//! - LEASE-1: at most one terminal frame is made: whoever wins [`JobLease::claim`] makes it.
//! - LEASE-2: no frame of the job is written after its terminal frame, nor after a cancel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The job is being worked.
const RUNNING: u8 = 0;
/// Somebody has claimed its end and queues the terminal frame.
const ENDED: u8 = 1;
/// The terminal frame went out.
const WRITTEN: u8 = 2;
/// Nothing more is said of it.
const CANCELLED: u8 = 3;

#[derive(Debug)]
struct State {
    phase: AtomicU8,
    /// A backend has begun to answer.
    begun: AtomicBool,
    /// Response bytes queued for the connection: the offset of the next chunk.
    queued: AtomicU64,
    /// Response bytes written to the connection.
    relayed: AtomicU64,
    /// Wakes the one worker that waits.
    stop: Notify,
}

/// A worker's, a pool's or a frame's part in a job.
#[derive(Clone, Debug)]
pub struct JobLease(Arc<State>);

impl JobLease {
    /// Claims the right to send the job's terminal frame. True for one caller at most, and for none after a cancel.
    pub fn claim(&self) -> bool {
        self.0.phase.compare_exchange(RUNNING, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the worker should go on.
    pub fn is_running(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) == RUNNING
    }

    /// Ready as soon as the job was cancelled or ended by somebody else than its worker, which alone waits here.
    pub async fn stopped(&self) {
        while self.is_running() {
            self.0.stop.notified().await;
        }
    }

    /// Counts response bytes as queued, and returns how many were before: their offset in the response. To be called in
    /// the response's order, which the job's worker keeps, who alone queues its chunks.
    pub(super) fn add_queued(&self, bytes: usize) -> u64 {
        self.0.queued.fetch_add(bytes as u64, Ordering::Relaxed)
    }

    /// Notes that a backend has begun to answer, whatever becomes of the answer: from here on it may have cost something.
    pub fn begin_answer(&self) {
        self.0.begun.store(true, Ordering::Relaxed);
    }

    /// Response bytes written to the connection so far.
    pub(crate) fn relayed(&self) -> u64 {
        self.0.relayed.load(Ordering::Relaxed)
    }

    /// Counts response bytes as written to the connection.
    pub(super) fn add_relayed(&self, bytes: usize) {
        self.0.relayed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether a frame with bytes of the response may still be written.
    pub(super) fn may_write(&self) -> bool {
        matches!(self.0.phase.load(Ordering::Acquire), RUNNING | ENDED)
    }

    /// Whether the terminal frame may be written; from then on nothing may.
    pub(super) fn begin_last_write(&self) -> bool {
        self.0.phase.compare_exchange(ENDED, WRITTEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The ledger's hold on a job. Dropping it cancels the job.
#[derive(Debug)]
pub struct JobGrip(Option<Arc<State>>);

impl JobGrip {
    /// A fresh job: the hold on it and the right to work it.
    pub fn new() -> (Self, JobLease) {
        let state = Arc::new(State {
            phase: AtomicU8::new(RUNNING),
            begun: AtomicBool::new(false),
            queued: AtomicU64::new(0),
            relayed: AtomicU64::new(0),
            stop: Notify::new(),
        });
        (Self(Some(Arc::clone(&state))), JobLease(state))
    }

    /// Lets go of a job that ended by itself: its last frames go out.
    pub fn release(mut self) {
        self.0 = None;
    }

    /// Whether a backend has begun to answer.
    pub fn has_begun(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.begun.load(Ordering::Relaxed))
    }

    /// Stops a running job from outside to end it with a terminal frame, which the caller makes with the lease that comes
    /// back: already claimed. None if the job has ended already.
    pub fn end(&self) -> Option<JobLease> {
        let lease = JobLease(Arc::clone(self.0.as_ref()?));
        let claimed = lease.claim();
        lease.0.stop.notify_one();
        claimed.then_some(lease)
    }
}

impl Drop for JobGrip {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            state.phase.store(CANCELLED, Ordering::Release);
            state.stop.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_grip_cancels_whatever_the_phase() {
        let (grip, lease) = JobGrip::new();
        drop(grip);
        assert!(!lease.is_running() && !lease.claim() && !lease.may_write());

        let (grip, lease) = JobGrip::new();
        assert!(lease.claim());
        drop(grip);
        assert!(!lease.begin_last_write(), "a queued terminal frame is not written after a cancel");
    }

    #[test]
    fn the_end_is_claimed_once() {
        let (grip, lease) = JobGrip::new();
        assert!(lease.claim());
        assert!(!lease.claim());
        assert!(grip.end().is_none());
        assert!(lease.begin_last_write());
        assert!(!lease.begin_last_write() && !lease.may_write());
    }

    #[test]
    fn a_released_job_keeps_its_last_frames() {
        let (grip, lease) = JobGrip::new();
        assert!(lease.claim());
        grip.release();
        assert!(lease.may_write() && lease.begin_last_write());
    }

    #[actix_rt::test]
    async fn a_waiting_worker_is_woken_by_cancel_and_by_an_end_from_outside() {
        let (grip, lease) = JobGrip::new();
        drop(grip);
        lease.stopped().await;
        let (grip, lease) = JobGrip::new();
        let waiting = lease.clone();
        let (claimed, ()) = futures_util::join!(async { grip.end() }, waiting.stopped());
        assert!(claimed.is_some() && !lease.claim());
    }
}
