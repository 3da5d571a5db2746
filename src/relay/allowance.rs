//! How many bytes jobs may hold: a part that each job always has, and what all jobs share beyond that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::chunk::MAX_CHUNK;

/// Bytes that the jobs of one connection may hold together, beyond their own parts, where what is written is not kept.
const SHARED: usize = 4 * 1024 * 1024;

/// A bound on the bytes of jobs. Cheap to clone: the clones share it.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// Bytes that each job may hold, whatever the others hold.
    own: usize,
    /// Bytes that a job may hold at most.
    most: usize,
    /// What is left of the shared bytes.
    shared: Arc<AtomicUsize>,
}

impl Allowance {
    /// For the jobs of a connection on which written bytes are not kept: a job holds only what the connection does not take.
    pub(super) fn of_connection() -> Self {
        Self { own: MAX_CHUNK, most: 8 * MAX_CHUNK, shared: Arc::new(AtomicUsize::new(SHARED)) }
    }

    /// For all jobs that keep what the coordinator has not acknowledged: each may always keep [`Self::KEPT`], and up to
    /// `most` as long as all jobs together keep at most `shared` bytes beyond that.
    pub fn of_sessions(most: usize, shared: usize) -> Self {
        Self { own: Self::KEPT, most: most.max(Self::KEPT), shared: Arc::new(AtomicUsize::new(shared)) }
    }

    /// Bytes that a job may always keep. A coordinator acknowledges when it has 64 KiB, and a frame more may be on its way.
    pub const KEPT: usize = 64 * 1024 + MAX_CHUNK;

    pub(super) fn own(&self) -> usize {
        self.own
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many of `held` bytes are borrowed of the shared ones.
    pub(super) fn borrowed(&self, held: usize) -> usize {
        held.saturating_sub(self.own)
    }

    /// Takes up to `wanted` of the shared bytes.
    pub(super) fn borrow(&self, wanted: usize) -> usize {
        let mut got = 0;
        let _ = self.shared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |shared| {
            got = wanted.min(shared);
            (got > 0).then(|| shared - got)
        });
        got
    }

    /// Gives back what was borrowed.
    pub(super) fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.shared.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
