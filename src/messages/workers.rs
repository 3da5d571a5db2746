//! Messages about the workers of a backend.

use super::ids::BackendId;

/// Identifies a worker within its pool. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);

/// Worker to pool: the worker has no job.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct WorkerFree {
    pub(crate) worker: WorkerId,
}

/// A worker's guard to its pool: the worker has ended.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct WorkerGone {
    pub(crate) worker: WorkerId,
}

/// Supervisor to router: the workers of this backend have ended, and their jobs with them.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct PoolLost {
    pub(crate) backend: BackendId,
}
