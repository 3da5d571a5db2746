//! The state that all connections of one coordinator share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::events::CoordinatorEvents;
use super::metrics::Gauges;
use crate::config::CoordinatorConfig;
use crate::coordinator::agents::agent_sessions::AgentSessions;
use crate::coordinator::agents::handshake::Admission;
use crate::coordinator::agents::link::SessionLink;
use crate::coordinator::api::body_reader::BodyReader;
use crate::coordinator::fleet::roster::{Released, Roster, SessionId};
use crate::messages::host_port::HostPort;
use crate::messages::ids::JobId;
use crate::messages::wire::{Extension, Extensions};

/// The shared state. A lock is held for one method call, and never over an await.
pub(crate) struct CoordinatorState {
    /// The configuration.
    pub(crate) config: CoordinatorConfig,
    /// Logs and counts what happens.
    pub(crate) events: CoordinatorEvents,
    /// Which agents are admitted.
    pub(crate) admission: Admission,
    /// The extensions that are offered to agents.
    pub(crate) extensions: Extensions,
    /// Reads request bodies within their memory limit.
    pub(crate) body_reader: BodyReader,
    /// The session of each agent.
    pub(crate) sessions: AgentSessions,
    roster: Mutex<Roster<SessionLink>>,
    stopping: AtomicBool,
    /// Sessions whose agent has not proved its key.
    in_handshake: Arc<AtomicUsize>,
    /// Notified whenever a job ends. A stop waits on it for the last job.
    job_ended: Notify,
}

impl CoordinatorState {
    /// A state without agents, of a coordinator that agents reach by these names.
    pub(crate) fn new(config: CoordinatorConfig, names: Vec<HostPort>) -> Arc<Self> {
        let admission = Admission::new(&config.agent_keys, config.enrollment_code.clone(), names);
        let extensions = config.extensions;
        let extensions = if admission.knows_its_names() { extensions } else { extensions.without(Extension::Auth2) };
        Arc::new(Self {
            admission,
            extensions,
            events: CoordinatorEvents::new(),
            body_reader: BodyReader::new(config.max_job_message, config.max_request_memory),
            config,
            sessions: AgentSessions::default(),
            roster: Mutex::new(Roster::new()),
            stopping: AtomicBool::new(false),
            in_handshake: Arc::default(),
            job_ended: Notify::new(),
        })
    }

    /// The roster, for one short read or change.
    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster<SessionLink>> {
        // Every method leaves the roster consistent, so a panic of another thread does not matter.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many agents and jobs there are.
    pub(crate) fn gauges(&self) -> Gauges {
        let roster = self.roster();
        let (agents, draining) = (roster.links().len(), roster.draining());
        Gauges { agents, draining, in_flight: roster.in_flight(), waiting: roster.waiting() }
    }

    /// Admits a session whose agent has not proved its key yet. `None` if there are too many.
    pub(crate) fn begin_handshake(&self) -> Option<HandshakePermit> {
        let permit = HandshakePermit(self.in_handshake.clone());
        let before = permit.0.fetch_add(1, Ordering::Relaxed);
        (before < self.config.max_in_handshake).then_some(permit)
    }

    /// Frees the slot of a job that its agent has completed.
    pub(crate) fn complete(&self, session: SessionId, job: JobId) {
        self.roster().complete(session, job);
        self.job_ended.notify_waiters();
    }

    /// Frees a job's slot, if it had one.
    pub(crate) fn release(&self, session: SessionId, job: JobId) -> Released<SessionLink> {
        let released = self.roster().release(session, job);
        self.job_ended.notify_waiters();
        released
    }

    /// Removes an agent and its jobs.
    pub(crate) fn leave(&self, session: SessionId) {
        self.roster().leave(session);
        self.job_ended.notify_waiters();
    }

    /// Takes an agent off the roster until it returns.
    pub(crate) fn part(&self, session: SessionId) {
        self.roster().part(session);
        self.job_ended.notify_waiters();
    }

    /// Whether new connections and requests are refused.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Refuses agents and requests from now on, and ends the jobs that wait for agents without a connection.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop_sessions();
    }

    /// Returns when no job runs.
    pub(crate) async fn drain(&self) {
        loop {
            let ended = self.job_ended.notified();
            tokio::pin!(ended);
            // Registers before the check, so that a job that ends between the two is not missed.
            ended.as_mut().enable();
            if self.roster().in_flight() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Counts a session among those whose agent has not proved its key, until it is dropped.
pub(crate) struct HandshakePermit(Arc<AtomicUsize>);

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
