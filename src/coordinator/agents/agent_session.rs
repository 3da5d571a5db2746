//! What outlives an agent's connection: its jobs, and which connection may work on them. No sockets, no clock.
//!
//! An agent without the extension `resume` has a session for each connection. With it, the session goes on over other
//! connections of the same key, which [`session_lifecycle`](super::session_lifecycle) decides. Only the connection
//! that has the session now can reach its jobs, so the frames of an earlier one change nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::workload::Workload;
use crate::messages::ids::{JobId, SessionName};

/// The number of a connection of an admitted agent. A session may have several, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(super) u64);

/// The jobs between one agent and this coordinator.
pub(crate) struct AgentSession {
    /// What an agent that returns calls it. `None` if it ends with its connection.
    pub(super) name: Option<SessionName>,
    pub(super) holder: Holder,
    pub(super) jobs: Workload,
}

/// Which connection a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// This one.
    Connection(ConnectionId),
    /// None: its jobs wait for the agent until then.
    Waits(Instant),
    /// None, for good.
    Over,
}

/// A session that the threads of its connections and its clients share. A lock is held for one short call.
#[derive(Clone)]
pub(crate) struct SharedSession(Arc<Mutex<AgentSession>>);

impl SharedSession {
    /// A session without jobs.
    pub(crate) fn new(name: Option<SessionName>, connection: ConnectionId) -> Self {
        let holder = Holder::Connection(connection);
        Self(Arc::new(Mutex::new(AgentSession { name, holder, jobs: Workload::default() })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, AgentSession> {
        // Every method leaves the session consistent, so a panic of another thread does not matter.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Removes a job whose client disconnected while the agent has no connection.
    pub(crate) fn forget(&self, job: JobId) {
        self.lock().jobs.forget(job);
    }
}

/// A connection's access to its session.
#[derive(Clone)]
pub(crate) struct ConnectionJobs {
    pub(super) session: SharedSession,
    pub(super) connection: ConnectionId,
}

impl ConnectionJobs {
    /// Reads or changes the jobs. `None`, and nothing is called, if another connection has the session now, or if it is over.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Workload) -> T) -> Option<T> {
        let mut session = self.session.lock();
        (session.holder == Holder::Connection(self.connection)).then(|| work(&mut session.jobs))
    }
}
