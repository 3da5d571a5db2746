//! The session of each agent's key. What happens to them is in [`session_lifecycle`](super::session_lifecycle).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::agent_session::SharedSession;
use super::handshake::AgentKey;
use super::workload::Workload;
use crate::coordinator::fleet::roster::SessionId;
use crate::messages::ids::ProviderId;

/// All sessions of a coordinator.
#[derive(Default)]
pub(crate) struct AgentSessions {
    known: Mutex<SessionTable>,
    /// Notified when a session begins to wait: [`expire_sessions`](super::session_lifecycle::expire_sessions) may have no timer.
    pub(super) began_to_wait: Notify,
}

/// The same, locked.
#[derive(Default)]
pub(super) struct SessionTable {
    pub(super) by_key: HashMap<AgentKey, KeyedSession>,
    pub(super) connections: u64,
    /// The coordinator stops: no agent can return.
    pub(super) stopping: bool,
}

/// The session of a key.
pub(super) struct KeyedSession {
    pub(super) id: SessionId,
    pub(super) provider: ProviderId,
    pub(super) session: SharedSession,
}

impl AgentSessions {
    pub(super) fn lock(&self) -> MutexGuard<'_, SessionTable> {
        // Every method leaves the sessions consistent, so a panic of another thread does not matter.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyedSession {
    /// Until when it waits for its agent, if it does.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.session.lock().waits_until()
    }

    /// Ends the session. Returns its jobs, which end when they are dropped, and whether it waited for its agent.
    pub(super) fn end(&self) -> (Workload, bool) {
        self.session.lock().end()
    }
}
