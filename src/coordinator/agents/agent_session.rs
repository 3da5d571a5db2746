//! What outlives an agent's connection: its jobs, and which connection may work on them. No sockets, no clock.
//!
//! An agent without the extension `resume` has a session for each connection. With it, the session goes on over other
//! connections of the same key, which [`session_lifecycle`](super::session_lifecycle) decides. Only the connection
//! that has the session now can reach its jobs, so the frames of an earlier one change nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::workload::{ClientSide, MissingJob, Workload};
use crate::coordinator::fleet::response_channel::ResponseSender;
use crate::messages::ids::{JobId, SessionName};
use crate::messages::wire::{KeptJob, ResumeRequest, WantedJob};

/// The number of a connection of an admitted agent. A session may have several, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(super) u64);

/// The jobs between one agent and this coordinator.
#[derive(Clone)]
pub(crate) struct AgentSession<S = ResponseSender> {
    /// What an agent that returns calls it. `None` if it ends with its connection.
    pub(super) name: Option<SessionName>,
    pub(super) holder: Holder,
    pub(super) jobs: Workload<S>,
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

/// What the end of a connection means for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterConnection {
    /// Nothing: another connection has it, or it is over.
    NotHeld,
    /// Its jobs wait for the agent.
    Waits,
    /// It ends.
    Ends,
}

impl<S: ClientSide> AgentSession<S> {
    /// A session without jobs.
    pub(super) fn new(name: Option<SessionName>, connection: ConnectionId) -> Self {
        Self { name, holder: Holder::Connection(connection), jobs: Workload::default() }
    }

    /// The jobs, if that connection has the session now.
    pub(super) fn jobs_of(&mut self, connection: ConnectionId) -> Option<&mut Workload<S>> {
        (self.holder == Holder::Connection(connection)).then_some(&mut self.jobs)
    }

    /// Whether an agent asks to go on with this session.
    pub(super) fn is_meant_by(&self, request: &ResumeRequest) -> bool {
        self.name.as_ref() == Some(&request.session)
    }

    /// Goes on over another connection of its agent, which still keeps these jobs.
    pub(super) fn resume(
        &mut self,
        connection: ConnectionId,
        kept: &[KeptJob],
    ) -> (Vec<WantedJob>, Vec<MissingJob<S>>) {
        self.holder = Holder::Connection(connection);
        self.jobs.resume(kept)
    }

    /// A connection has ended. `may_wait`: an agent can return to this coordinator.
    pub(super) fn after(&mut self, connection: ConnectionId, may_wait: bool) -> AfterConnection {
        if self.holder != Holder::Connection(connection) {
            return AfterConnection::NotHeld;
        }
        self.jobs.drop_abandoned();
        if self.name.is_some() && self.jobs.len() > 0 && may_wait {
            AfterConnection::Waits
        } else {
            AfterConnection::Ends
        }
    }

    /// Its jobs wait for the agent until then.
    pub(super) fn wait(&mut self, until: Instant) {
        self.holder = Holder::Waits(until);
        self.jobs.wait_for_agent();
    }

    /// Until when it waits for its agent, if it does.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        match self.holder {
            Holder::Waits(until) => Some(until),
            Holder::Connection(_) | Holder::Over => None,
        }
    }

    /// Ends the session. Returns its jobs, which end when they are dropped, and whether it waited for its agent.
    pub(super) fn end(&mut self) -> (Workload<S>, bool) {
        let waited = self.waits_until().is_some();
        self.holder = Holder::Over;
        (std::mem::take(&mut self.jobs), waited)
    }
}

#[cfg(any(test, fuzzing))]
impl<S> AgentSession<S> {
    /// Adds what is decided from, but for the clients' sides.
    pub(super) fn add_to(&self, to: &mut crate::core::fingerprint::Fingerprint<'_>) {
        let Self { name, holder, jobs } = self;
        to.add((name.as_ref().map(|name| to.is_session(name)), matches!(holder, Holder::Over)));
        to.add(match holder {
            Holder::Connection(id) => to.connection(crate::messages::ids::Generation::numbered(id.0)),
            Holder::Waits(_) | Holder::Over => None,
        });
        if let Holder::Waits(until) = holder {
            to.add(to.time(until.into_std()));
        }
        jobs.add_to(to);
    }
}

/// A session that the threads of its connections and its clients share. A lock is held for one short call.
#[derive(Clone)]
pub(crate) struct SharedSession(Arc<Mutex<AgentSession>>);

impl SharedSession {
    /// A session without jobs.
    pub(crate) fn new(name: Option<SessionName>, connection: ConnectionId) -> Self {
        Self(Arc::new(Mutex::new(AgentSession::new(name, connection))))
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
        self.session.lock().jobs_of(self.connection).map(work)
    }
}
