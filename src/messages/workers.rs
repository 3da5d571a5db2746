//! The workers of a pool, as the pool and the router hear of them.

use super::ids::BackendId;

/// Names a worker within its pool; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);

/// Worker to pool: I am free.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct WorkerFree {
    pub(crate) worker: WorkerId,
}

/// A worker's guard to its pool: it is gone.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct WorkerGone {
    pub(crate) worker: WorkerId,
}

/// Supervisor to router: that backend's workers are gone, and so are their jobs.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct PoolLost {
    pub(crate) backend: BackendId,
}
