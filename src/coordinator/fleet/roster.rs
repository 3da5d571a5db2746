//! The connected agents, their offers and their jobs. Pure: no sockets, no clock, no locks.
//!
//! The roster is generic over the link to an agent, so that its tests need no sessions. The jobs of an agent are a set. Their
//! number is the size of the set and is not stored anywhere else. An agent whose session waits for its return is not on the
//! roster, and gets no jobs, but it keeps its number and its set.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use super::retry::Tries;
use crate::coordinator::agents::handshake::AgentKey;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::{Capabilities, Extension, Extensions, Heartbeat};

mod summary;

pub(crate) use summary::{AgentSummary, ModelSummary};

#[cfg(test)]
mod tests;

/// The most concurrent jobs of an agent. An agent can't be configured for more.
const MOST_JOBS: usize = 4096;
/// The most slots of a new agent that count when agents are compared.
const FIRST_SLOTS: usize = 8;

/// The number of a session in this process. An agent that reconnects gets another one, unless its session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

#[cfg(test)]
impl SessionId {
    /// A session for tests without a roster.
    pub(crate) fn numbered(number: usize) -> Self {
        Self(number as u64)
    }
}

/// An agent that has proved its key.
#[derive(Clone)]
pub(crate) struct AgentInfo<L> {
    /// Its key.
    pub(crate) key: AgentKey,
    /// The name that is made from the key.
    pub(crate) provider: ProviderId,
    /// The version that it reported.
    pub(crate) version: String,
    /// The extensions that were agreed on.
    pub(crate) extensions: Extensions,
    /// When it was admitted.
    pub(crate) since: SystemTime,
    /// The link to its session.
    pub(crate) link: L,
}

impl AgentInfo<()> {
    /// The same with a link.
    pub(crate) fn linked<L>(self, link: L) -> AgentInfo<L> {
        let Self { key, provider, version, extensions, since, link: () } = self;
        AgentInfo { key, provider, version, extensions, since, link }
    }
}

/// What a request needs of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demand {
    /// The model.
    pub(crate) model: ModelId,
    /// The API path.
    pub(crate) endpoint: Endpoint,
}

/// An agent's offer of one model.
struct Offer {
    max_concurrent: usize,
    context_window: Option<u64>,
    endpoints: Endpoints,
    /// The concurrent jobs over all models at which the agent has refused one of this model as full.
    full_at: Option<usize>,
}

struct Agent<L> {
    info: AgentInfo<L>,
    offers: BTreeMap<ModelId, Offer>,
    /// Concurrent jobs over all models, as it reported.
    limit: usize,
    /// The most concurrent jobs that it had when it completed one.
    most_completed: usize,
    /// Its jobs, each with its model.
    jobs: HashMap<JobId, ModelId>,
    heartbeat: Option<Heartbeat>,
    /// The number of its last assignment. Among equal agents the one with the oldest assignment is next.
    last_assignment: u64,
}

impl<L> Agent<L> {
    fn serves(&self, demand: &Demand) -> bool {
        self.offers.get(&demand.model).is_some_and(|offer| offer.endpoints.contains(demand.endpoint))
    }

    fn has_room_for(&self, model: &ModelId) -> bool {
        let jobs = self.jobs.len();
        let Some(offer) = self.offers.get(model) else { return false };
        let of_model = || self.jobs.values().filter(|other| *other == model).count();
        jobs < self.limit && offer.full_at.is_none_or(|full_at| jobs < full_at) && of_model() < offer.max_concurrent
    }

    /// The slots that count when agents are compared: those that it reports, but at most twice the concurrent jobs that it had
    /// when it completed one. So an agent that reports too many slots gets no more jobs than others.
    fn credible_slots(&self) -> usize {
        self.limit.min((2 * self.most_completed).max(FIRST_SLOTS))
    }

    /// Whether it is preferred to another agent: by load, then by jobs, then by the oldest assignment.
    fn is_preferred_to(&self, other: &Self) -> bool {
        // a/b < c/d without a division. Slots are not 0 if there is room.
        let load = (self.jobs.len() * other.credible_slots()).cmp(&(other.jobs.len() * self.credible_slots()));
        load.then(self.jobs.len().cmp(&other.jobs.len())).then(self.last_assignment.cmp(&other.last_assignment)).is_lt()
    }
}

/// The connected agents and their jobs.
pub(crate) struct Roster<L> {
    agents: BTreeMap<SessionId, Agent<L>>,
    /// Agents without a connection, whose jobs wait for their return.
    away: BTreeMap<SessionId, Agent<L>>,
    sessions: u64,
    assignments: u64,
}

/// A booked slot.
#[derive(Debug)]
pub(crate) struct Assignment<L> {
    /// The agent's session.
    pub(crate) session: SessionId,
    /// The agent's key.
    pub(crate) key: AgentKey,
    /// The agent's name.
    pub(crate) provider: ProviderId,
    /// The link to its session.
    pub(crate) link: L,
    /// The extensions that were agreed on.
    pub(crate) extensions: Extensions,
}

/// Whether a job had a slot until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released<L> {
    /// It had one with the agent of this link.
    Connected(L),
    /// It had one with an agent that has no connection.
    Away,
    /// It had none: it has ended, or the session of its agent has.
    NotHeld,
}

/// Why no agent can get a job. If there are several reasons, the greatest one is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoAgent {
    /// No agent offers the model.
    Unknown,
    /// No agent that offers the model offers it at the path.
    NotAtEndpoint,
    /// All agents that offer it have failed the request.
    Tried,
    /// All other agents that offer it are at their limits.
    Full,
}

impl<L: Clone> Roster<L> {
    /// A roster without agents.
    pub(crate) fn new() -> Self {
        Self { agents: BTreeMap::new(), away: BTreeMap::new(), sessions: 0, assignments: 0 }
    }

    /// Adds an agent without offers. An older session of the same key is removed, and its link is returned if it has a connection.
    pub(crate) fn join(&mut self, info: AgentInfo<L>) -> (SessionId, Option<L>) {
        let older = self.agents.iter().find(|(_, agent)| agent.info.key == info.key).map(|(session, _)| *session);
        let replaced = older.and_then(|session| self.agents.remove(&session)).map(|agent| agent.info.link);
        self.away.retain(|_, agent| agent.info.key != info.key);
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let agent = Agent {
            info,
            offers: BTreeMap::new(),
            limit: 0,
            most_completed: 0,
            jobs: HashMap::new(),
            heartbeat: None,
            last_assignment: 0,
        };
        self.agents.insert(session, agent);
        (session, replaced)
    }

    /// Removes an agent and its jobs.
    pub(crate) fn leave(&mut self, session: SessionId) {
        self.agents.remove(&session);
        self.away.remove(&session);
    }

    /// Takes an agent off the roster until it returns. Its jobs stay.
    pub(crate) fn part(&mut self, session: SessionId) {
        let parted = self.agents.remove(&session);
        self.away.extend(parted.map(|agent| (session, agent)));
    }

    /// The session of an agent goes on over another connection. The agent keeps its jobs, and offers nothing until it sends its
    /// offer again. Returns the link of its old connection, if that still exists.
    pub(crate) fn rejoin(&mut self, session: SessionId, info: AgentInfo<L>) -> Option<L> {
        let connected = self.agents.remove(&session);
        let link = connected.as_ref().map(|agent| agent.info.link.clone());
        let agent = connected.or_else(|| self.away.remove(&session));
        let rejoined = agent.map(|agent| (session, Agent { info, offers: BTreeMap::new(), limit: 0, ..agent }));
        self.agents.extend(rejoined);
        link
    }

    /// Replaces an agent's offer. Its jobs stay. A model without paths is offered at those of the base protocol, and so are all
    /// models of an agent without the extension `endpoints`.
    pub(crate) fn offer(&mut self, session: SessionId, offer: Capabilities) {
        let Some(agent) = self.agents.get_mut(&session) else { return };
        let names_paths = agent.info.extensions.contains(Extension::Endpoints);
        agent.limit = (offer.limits.max_concurrent_total as usize).min(MOST_JOBS);
        agent.offers = offer
            .models
            .into_iter()
            .map(|model| {
                let max_concurrent = (model.max_concurrent as usize).min(MOST_JOBS);
                let endpoints = model.endpoints.filter(|_| names_paths).unwrap_or(Endpoints::BASE);
                let context_window = model.context_window;
                (model.model_id, Offer { max_concurrent, context_window, endpoints, full_at: None })
            })
            .collect();
    }

    /// Stores an agent's heartbeat.
    pub(crate) fn heartbeat(&mut self, session: SessionId, figures: Heartbeat) {
        if let Some(agent) = self.agents.get_mut(&session) {
            agent.heartbeat = Some(figures);
        }
    }

    /// Books a slot for a job with the least loaded agent that serves the demand and may get a request that failed like this
    /// before.
    pub(crate) fn assign(&mut self, demand: &Demand, job: JobId, tries: &Tries) -> Result<Assignment<L>, NoAgent> {
        let mut no_agent = NoAgent::Unknown;
        let mut best: Option<(SessionId, &Agent<L>)> = None;
        for (session, agent) in &self.agents {
            if !agent.offers.contains_key(&demand.model) {
                continue;
            }
            if !agent.serves(demand) {
                no_agent = no_agent.max(NoAgent::NotAtEndpoint);
                continue;
            }
            if tries.rule_out(agent.info.key) {
                no_agent = no_agent.max(NoAgent::Tried);
                continue;
            }
            no_agent = NoAgent::Full;
            if !agent.has_room_for(&demand.model) {
                continue;
            }
            if best.is_none_or(|(_, best)| agent.is_preferred_to(best)) {
                best = Some((*session, agent));
            }
        }
        let (session, _) = best.ok_or(no_agent)?;
        self.book(session, &demand.model, job).ok_or(no_agent)
    }

    /// Books a slot for a job with this agent. `None` if the agent is gone.
    pub(crate) fn book(&mut self, session: SessionId, model: &ModelId, job: JobId) -> Option<Assignment<L>> {
        let agent = self.agents.get_mut(&session)?;
        self.assignments += 1;
        agent.last_assignment = self.assignments;
        agent.jobs.insert(job, model.clone());
        let AgentInfo { key, provider, link, extensions, .. } = &agent.info;
        Some(Assignment { session, key: *key, provider: provider.clone(), link: link.clone(), extensions: *extensions })
    }

    /// Whether an agent serves the demand and has a slot for it.
    pub(crate) fn has_slot(&self, session: SessionId, demand: &Demand) -> bool {
        self.agents.get(&session).is_some_and(|agent| agent.serves(demand) && agent.has_room_for(&demand.model))
    }

    /// Whether an agent may get a request that failed like this before.
    pub(crate) fn may_get(&self, session: SessionId, tries: &Tries) -> bool {
        self.agents.get(&session).is_some_and(|agent| !tries.rule_out(agent.info.key))
    }

    /// Frees the slot of a job that its agent has completed. Nothing happens if the job is no longer held.
    pub(crate) fn complete(&mut self, session: SessionId, job: JobId) {
        let Some(agent) = self.agents.get_mut(&session) else { return };
        let held = agent.jobs.len();
        if agent.jobs.remove(&job).is_some() {
            agent.most_completed = agent.most_completed.max(held);
        }
    }

    /// Frees the slot of a job that its agent has refused because it is full. Until the agent has fewer jobs than the others
    /// that it has now, sends an offer, or [`Self::forget_refusals`] is called, it has no slot for the model.
    pub(crate) fn refuse(&mut self, session: SessionId, job: JobId) {
        let Some(agent) = self.agents.get_mut(&session) else { return };
        let offer = agent.jobs.remove(&job).and_then(|model| agent.offers.get_mut(&model));
        if let Some(offer) = offer {
            offer.full_at = Some(agent.jobs.len());
        }
    }

    /// Lets an agent have jobs again as if it had refused none.
    pub(crate) fn forget_refusals(&mut self, session: SessionId) {
        let offers = self.agents.get_mut(&session).into_iter().flat_map(|agent| agent.offers.values_mut());
        offers.for_each(|offer| offer.full_at = None);
    }

    /// Frees a job's slot.
    pub(crate) fn release(&mut self, session: SessionId, job: JobId) -> Released<L> {
        let free = |agents: &mut BTreeMap<SessionId, Agent<L>>| {
            let agent = agents.get_mut(&session)?;
            agent.jobs.remove(&job).map(|_| agent.info.link.clone())
        };
        match (free(&mut self.agents), free(&mut self.away)) {
            (Some(link), _) => Released::Connected(link),
            (None, Some(_)) => Released::Away,
            (None, None) => Released::NotHeld,
        }
    }

    /// The link to an agent that has a connection.
    pub(crate) fn link(&self, session: SessionId) -> Option<L> {
        self.agents.get(&session).map(|agent| agent.info.link.clone())
    }

    /// The number of connected agents.
    pub(crate) fn count(&self) -> usize {
        self.agents.len()
    }

    /// Jobs over all connected agents.
    pub(crate) fn in_flight(&self) -> usize {
        self.agents.values().map(|agent| agent.jobs.len()).sum()
    }

    /// Jobs that wait for agents without a connection.
    pub(crate) fn waiting(&self) -> usize {
        self.away.values().map(|agent| agent.jobs.len()).sum()
    }

    /// The links to all connected agents.
    pub(crate) fn links(&self) -> Vec<L> {
        self.agents.values().map(|agent| agent.info.link.clone()).collect()
    }
}
