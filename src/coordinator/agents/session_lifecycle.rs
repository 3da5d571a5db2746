//! What happens to the sessions of agents: which connection goes on with one, and how long one waits for a connection. Used by the
//! connections, by the server's timer ([`expire_sessions`]) and by a stop.
//!
//! A key has at most one session. If the connection ends and `resume` was agreed on, a session with jobs waits for the agent:
//! its agent leaves the roster, and its clients wait. It goes on with a connection that proves the same key and names it. It ends
//! when the window has passed, when its agent opens another session, or when the coordinator stops. Locks are taken in the order
//! sessions, one session, roster.

use std::convert::Infallible;

use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};

use super::agent_session::{AfterConnection, ConnectionId, ConnectionJobs, SharedSession};
use super::agent_sessions::{KeyedSession, SessionTable};
use super::handshake::AgentKey;
use super::link::SessionLink;
use super::workload::{MissingJob, Workload};
use crate::coordinator::events::{SessionEndedWaiting, SessionResumed, SessionWaits};
use crate::coordinator::fleet::roster::{AgentInfo, SessionId};
use crate::coordinator::fleet::session_change::SessionLoss;
use crate::coordinator::state::CoordinatorState;
use crate::messages::ids::SessionName;
use crate::messages::wire::{Extension, ResumeRequest, WantedJob};

/// The session of a new connection.
pub(crate) struct OpenedSession {
    /// Its number on the roster.
    pub(crate) id: SessionId,
    /// Its jobs.
    pub(crate) jobs: ConnectionJobs,
    /// Its name, if it outlives the connection.
    pub(crate) name: Option<SessionName>,
    /// If it went on: the jobs that the agent is to go on with.
    pub(crate) resumed: Option<Vec<WantedJob>>,
    /// Jobs that the agent does not have. They have no slot, and are to be ended when the agent has sent its offer, because it
    /// may get them again.
    pub(crate) missing: Vec<MissingJob>,
    /// An earlier connection of the key that still seems to exist.
    pub(crate) older: Option<SessionLink>,
    /// Jobs of an earlier session of the key that were lost.
    pub(crate) jobs_lost: usize,
}

impl CoordinatorState {
    /// Opens the session of a connection that has proved its key: the one that it asks for, if it is that of the same key, or a
    /// new one. `link` makes the link to the connection.
    pub(crate) fn open_session(
        &self,
        agent: AgentInfo<()>,
        request: Option<&ResumeRequest>,
        link: impl FnOnce(SharedSession) -> SessionLink,
    ) -> OpenedSession {
        let mut known = self.sessions.lock();
        known.connections += 1;
        let connection = ConnectionId(known.connections);
        let outlives = agent.extensions.contains(Extension::Resume);
        let (key, provider) = (agent.key, agent.provider.clone());
        if let (Some(entry), Some(request)) = (known.by_key.get(&key), request)
            && outlives
            && entry.session.lock().is_meant_by(request)
        {
            let agent = agent.linked(link(entry.session.clone()));
            return self.resume_session(entry, connection, agent, request);
        }
        let older = known.by_key.remove(&key);
        let name = outlives.then(|| SessionName::from_bits(rand::rng().random()));
        let session = SharedSession::new(name.clone(), connection);
        let (id, older_link) = self.join(agent.linked(link(session.clone())));
        known.by_key.insert(key, KeyedSession { id, provider, session: session.clone() });
        drop(known);
        let (mut jobs_lost, mut missing) = (0, Vec::new());
        if let Some(older) = older {
            self.leave(older.id);
            let (mut jobs, waited) = older.end();
            jobs_lost = jobs.len();
            if waited {
                self.report_end(&older, &jobs, SessionLoss::Replaced);
            }
            // Its agent has lost them, and may get them again.
            missing = jobs.take_unbegun();
        }
        let jobs = ConnectionJobs { session, connection };
        OpenedSession { id, jobs, name, resumed: None, missing, older: older_link, jobs_lost }
    }

    fn resume_session(
        &self,
        entry: &KeyedSession,
        connection: ConnectionId,
        agent: AgentInfo<SessionLink>,
        request: &ResumeRequest,
    ) -> OpenedSession {
        let mut session = entry.session.lock();
        // The roster comes first: from now on a client that leaves cancels its job by way of the new connection, and the
        // receiving ends of those that left before are dropped.
        let older = self.rejoin(entry.id, agent);
        let (wanted, missing) = session.resume(connection, &request.jobs);
        let name = session.name.clone();
        drop(session);
        self.events.emit(&SessionResumed {
            provider: entry.provider.clone(),
            jobs: wanted.len(),
            jobs_missing: missing.len(),
            was_connected: older.is_some(),
        });
        for job in &missing {
            self.release(entry.id, job.job);
        }
        let jobs = ConnectionJobs { session: entry.session.clone(), connection };
        OpenedSession { id: entry.id, jobs, name, resumed: Some(wanted), missing, older, jobs_lost: 0 }
    }

    /// The connection of an agent has ended. Its session waits for the agent, or ends with its jobs. Returns how many were lost.
    /// Nothing happens if another connection has the session.
    pub(crate) fn leave_session(&self, key: AgentKey, jobs: &ConnectionJobs) -> usize {
        let mut known = self.sessions.lock();
        let Some(entry) = known.by_key.get(&key).filter(|entry| entry.session.is(&jobs.session)) else { return 0 };
        let mut session = entry.session.lock();
        match session.after(jobs.connection, !known.stopping) {
            AfterConnection::NotHeld => return 0,
            AfterConnection::Waits => {
                let window = self.config.resume_window;
                // Before its clients learn of it, which may book another agent.
                self.part(entry.id);
                session.wait(Instant::now() + window);
                let (provider, jobs) = (entry.provider.clone(), session.jobs.len());
                self.events.emit(&SessionWaits { provider, jobs, window });
                self.sessions.began_to_wait.notify_one();
                return 0;
            }
            AfterConnection::Ends => drop(session),
        }
        let entry = known.by_key.remove(&key);
        drop(known);
        entry.map_or(0, |entry| {
            let (jobs, _) = entry.end();
            self.leave(entry.id);
            jobs.len()
        })
    }

    /// Ends all sessions without a connection. From now on no session waits.
    pub(crate) fn stop_sessions(&self) {
        let mut known = self.sessions.lock();
        known.stopping = true;
        self.end_waiting(&mut known, SessionLoss::Stopping, |_| true);
    }

    /// Ends the sessions whose window has passed. Returns when the next one passes.
    fn end_expired(&self, now: Instant) -> Option<Instant> {
        let mut known = self.sessions.lock();
        self.end_waiting(&mut known, SessionLoss::WindowPassed, |until| until <= now);
        known.by_key.values().filter_map(KeyedSession::waits_until).min()
    }

    fn end_waiting(&self, known: &mut SessionTable, cause: SessionLoss, is_over: impl Fn(Instant) -> bool) {
        for (_, entry) in known.by_key.extract_if(|_, entry| entry.waits_until().is_some_and(&is_over)) {
            let (jobs, _) = entry.end();
            self.leave(entry.id);
            self.report_end(&entry, &jobs, cause);
        }
    }

    fn report_end(&self, entry: &KeyedSession, jobs: &Workload, cause: SessionLoss) {
        self.events.emit(&SessionEndedWaiting { provider: entry.provider.clone(), jobs_lost: jobs.len(), cause });
    }
}

/// Ends each session whose agent did not return in time.
pub(crate) async fn expire_sessions(state: &CoordinatorState) -> Infallible {
    loop {
        let waits = state.sessions.began_to_wait.notified();
        match state.end_expired(Instant::now()) {
            Some(next) => {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = waits => {}
                }
            }
            None => waits.await,
        }
    }
}

#[cfg(test)]
mod tests;
