//! The state that all connections of one coordinator share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::events::CoordinatorEvents;
use super::metrics::Gauges;
use crate::config::CoordinatorConfig;
use crate::coordinator::agents::agent_sessions::AgentSessions;
use crate::coordinator::agents::handshake::Admission;
use crate::coordinator::agents::link::SessionLink;
use crate::coordinator::api::body_reader::BodyReader;
use crate::coordinator::fleet::response_channel::ResponseEnd;
use crate::coordinator::fleet::roster::{
    AgentInfo, AgentSummary, Assignment, ModelSummary, NoAgent, Released, SessionId,
};
use crate::coordinator::fleet::slots::{Claim, Served, Slots};
use crate::coordinator::fleet::wait_queue::{Place, QueueFull, Ticket};
use crate::messages::host_port::HostPort;
use crate::messages::ids::JobId;
use crate::messages::wire::{Capabilities, ErrorCode, Extension, Extensions, Heartbeat};

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
    /// Ends of waits are sent under this lock, so that a request that leaves the queue knows whether its end was sent.
    slots: Mutex<Slots<SessionLink, oneshot::Sender<WaitEnd>>>,
    /// Requests for jobs that have arrived.
    arrivals: AtomicU64,
    stopping: AtomicBool,
    /// Sessions whose agent has not proved its key.
    in_handshake: Arc<AtomicUsize>,
    /// Jobs whose response was not taken over whole by its client. Their agents may have finished them.
    responding: AtomicUsize,
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
            slots: Mutex::new(Slots::new(config.queue_length, config.max_job_message)),
            config,
            sessions: AgentSessions::default(),
            arrivals: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            in_handshake: Arc::default(),
            responding: AtomicUsize::new(0),
            job_ended: Notify::new(),
        })
    }

    fn slots(&self) -> MutexGuard<'_, Slots<SessionLink, oneshot::Sender<WaitEnd>>> {
        // Every method leaves the slots consistent, so a panic of another thread does not matter.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many agents, jobs and waiting requests there are.
    pub(crate) fn gauges(&self) -> Gauges {
        let slots = self.slots();
        let roster = slots.roster();
        let (agents, draining, in_flight) = (roster.count(), roster.draining(), roster.in_flight());
        Gauges { agents, draining, in_flight, parked: roster.waiting(), waiting: slots.waiting() }
    }

    /// Every model once, by its id.
    pub(crate) fn models(&self) -> Vec<ModelSummary> {
        self.slots().roster().models()
    }

    /// All agents, in the order of their sessions.
    pub(crate) fn agents(&self) -> Vec<AgentSummary> {
        self.slots().roster().agents()
    }

    /// The link to an agent that has a connection.
    pub(crate) fn link(&self, session: SessionId) -> Option<SessionLink> {
        self.slots().roster().link(session)
    }

    /// The links to all connected agents.
    pub(crate) fn links(&self) -> Vec<SessionLink> {
        self.slots().roster().links()
    }

    /// Admits a session whose agent has not proved its key yet. `None` if there are too many.
    pub(crate) fn begin_handshake(&self) -> Option<HandshakePermit> {
        let others = self.in_handshake.fetch_add(1, Ordering::Relaxed);
        let permit = HandshakePermit { in_handshake: self.in_handshake.clone(), others };
        (others < self.config.max_in_handshake).then_some(permit)
    }

    /// The place of a new request in the order of arrival.
    pub(crate) fn arrival(&self) -> Ticket {
        Ticket(self.arrivals.fetch_add(1, Ordering::Relaxed))
    }

    /// Books a slot. If all agents are full or have lost their connection, the request enters the queue, if it `may_wait`.
    pub(crate) fn claim(&self, claim: Claim<'_>, may_wait: bool) -> Result<Claimed, NoSlot> {
        let mut slots = self.slots();
        // Read under the lock: a stop ends all waits that began before it.
        if self.is_stopping() {
            return Err(NoSlot::Stopping);
        }
        match slots.book(claim) {
            Ok(slot) => return Ok(Claimed::Slot(slot)),
            Err(NoAgent::Full | NoAgent::Away) if may_wait => {}
            Err(no_agent) => return Err(NoSlot::NoAgent(no_agent)),
        }
        let (sender, end) = oneshot::channel();
        let entered = slots.wait(claim, sender).map_err(|QueueFull| NoSlot::QueueFull)?;
        send_all(entered.displaced.map(|waiter| (waiter, WaitEnd::Displaced)));
        Ok(Claimed::Waits { place: entered.place, end })
    }

    /// Removes a request from the queue. `false` if it was no longer there: its end was sent.
    pub(crate) fn withdraw(&self, place: &Place) -> bool {
        self.slots().withdraw(place)
    }

    /// Adds an agent without offers. An older session of the same key is removed, and its link is returned if it has a connection.
    pub(crate) fn join(&self, info: AgentInfo<SessionLink>) -> (SessionId, Option<SessionLink>) {
        self.slots().join(info)
    }

    /// The session of an agent goes on over another connection. Returns the link of the old one, if that still exists.
    pub(crate) fn rejoin(&self, session: SessionId, info: AgentInfo<SessionLink>) -> Option<SessionLink> {
        self.slots().rejoin(session, info)
    }

    /// Takes an agent off the roster until it returns. Its jobs stay.
    pub(crate) fn part(&self, session: SessionId) {
        self.slots().part(session);
        self.job_ended.notify_waiters();
    }

    /// Removes an agent and its jobs.
    pub(crate) fn leave(&self, session: SessionId) {
        self.slots().leave(session);
        self.job_ended.notify_waiters();
    }

    /// Replaces an agent's offer.
    pub(crate) fn offer(&self, session: SessionId, offer: Capabilities) {
        let mut slots = self.slots();
        give(slots.offer(session, offer));
    }

    /// Records that an agent will stop. `false` if that is known, or the agent is gone.
    pub(crate) fn begin_drain(&self, session: SessionId) -> bool {
        let mut slots = self.slots();
        let in_vain = slots.drain(session);
        let is_news = in_vain.is_some();
        send_all(in_vain.into_iter().flatten().map(|waiter| (waiter, WaitEnd::Draining)));
        is_news
    }

    /// Whether an agent may be sent a job with a frame of this length, in bytes. Not if it is draining or gone.
    pub(crate) fn accepts(&self, session: SessionId, length: usize) -> bool {
        self.slots().roster().accepts(session, length)
    }

    /// Stores an agent's heartbeat.
    pub(crate) fn heartbeat(&self, session: SessionId, figures: Heartbeat) {
        self.slots().heartbeat(session, figures);
    }

    /// Frees the slot of a job whose response has ended like this.
    pub(crate) fn end(&self, session: SessionId, job: JobId, end: &ResponseEnd) {
        let mut slots = self.slots();
        give(match end {
            ResponseEnd::Done(_) => slots.complete(session, job),
            ResponseEnd::Failed { code: ErrorCode::OutOfCapacity, .. } => slots.refuse(session, job),
            _ => slots.release(session, job).1,
        });
        drop(slots);
        self.job_ended.notify_waiters();
    }

    /// Frees a job's slot, if it had one.
    pub(crate) fn release(&self, session: SessionId, job: JobId) -> Released<SessionLink> {
        let mut slots = self.slots();
        let (released, served) = slots.release(session, job);
        give(served);
        drop(slots);
        self.job_ended.notify_waiters();
        released
    }

    /// A job has a slot: its response begins.
    pub(crate) fn begin_response(&self) {
        self.responding.fetch_add(1, Ordering::Relaxed);
    }

    /// The client has taken over the response, or is gone. [`Self::release`] follows, which notifies a stop of both.
    pub(crate) fn end_response(&self) {
        self.responding.fetch_sub(1, Ordering::Relaxed);
    }

    /// Jobs whose response was not taken over whole by its client.
    pub(crate) fn responding(&self) -> usize {
        self.responding.load(Ordering::Relaxed)
    }

    /// Lets an agent have jobs again as if it had refused none as full.
    pub(crate) fn forget_refusals(&self, session: SessionId) {
        let mut slots = self.slots();
        give(slots.forget_refusals(session));
    }

    /// Whether new connections and requests are refused.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Refuses agents and requests from now on, those that wait included, and ends the jobs that wait for agents without a
    /// connection.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.dismiss();
        self.stop_sessions();
    }

    fn dismiss(&self) {
        let mut slots = self.slots();
        send_all(slots.dismiss().map(|waiter| (waiter, WaitEnd::Stopping)));
    }

    /// Returns when no job runs, and each client has taken over its response.
    pub(crate) async fn drain(&self) {
        loop {
            let ended = self.job_ended.notified();
            tokio::pin!(ended);
            // Registers before the check, so that a job that ends between the two is not missed.
            ended.as_mut().enable();
            if self.responding() == 0 && self.gauges().in_flight == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// How a wait for a slot ends.
pub(crate) enum WaitEnd {
    /// There is a slot.
    Slot(Assignment<SessionLink>),
    /// Another client's request took the place in the full queue.
    Displaced,
    /// The agents that it waited for are draining.
    Draining,
    /// The coordinator is being stopped.
    Stopping,
}

/// What became of a claim.
pub(crate) enum Claimed {
    /// There is a slot.
    Slot(Assignment<SessionLink>),
    /// The request has entered the queue.
    Waits {
        /// Its place.
        place: Place,
        /// Receives the end of the wait, unless the request is withdrawn.
        end: oneshot::Receiver<WaitEnd>,
    },
}

/// Why there is no slot for a request.
pub(crate) enum NoSlot {
    /// The coordinator is being stopped.
    Stopping,
    /// As many requests wait as may.
    QueueFull,
    /// No agent can take it now.
    NoAgent(NoAgent),
}

/// Tells those who wait for these slots. Must be called under the lock of the slots.
fn give(served: Vec<Served<SessionLink, oneshot::Sender<WaitEnd>>>) {
    send_all(served.into_iter().map(|served| (served.waiter, WaitEnd::Slot(served.assignment))));
}

fn send_all(ends: impl IntoIterator<Item = (oneshot::Sender<WaitEnd>, WaitEnd)>) {
    for (waiter, end) in ends {
        // A receiver is dropped only after its request was withdrawn, so there is one.
        let _ = waiter.send(end);
    }
}

/// Counts a session among those whose agent has not proved its key, until it is dropped.
pub(crate) struct HandshakePermit {
    in_handshake: Arc<AtomicUsize>,
    others: usize,
}

impl HandshakePermit {
    /// How many others there were when it was given.
    pub(crate) fn others(&self) -> usize {
        self.others
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.in_handshake.fetch_sub(1, Ordering::Relaxed);
    }
}
