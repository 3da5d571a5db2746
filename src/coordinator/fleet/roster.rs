//! The connected agents, their offers and their jobs. Pure: no sockets, no clock, no locks.
//!
//! The roster is generic over the link to an agent, so that its tests need no sessions. The jobs of an agent are a set. Their
//! number is the size of the set and is not stored anywhere else. An agent whose session waits for its return is not on the
//! roster, and gets no jobs, but it keeps its number and its set.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use super::job_frame::FrameLength;
use super::summaries::{AgentSummary, ModelSummary};
use crate::coordinator::agents::handshake::AgentKey;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::{Capabilities, Extension, Extensions, Heartbeat};

#[cfg(test)]
mod tests;

/// The most concurrent jobs of an agent. An agent can't be configured for more.
const MOST_JOBS: usize = 4096;
/// The most slots of a new agent that count when agents are compared.
const FIRST_SLOTS: usize = 8;

/// The number of a session in this process. An agent that reconnects gets another one, unless its session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

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

/// An agent's offer of one model.
struct Offer {
    max_concurrent: usize,
    context_window: Option<u64>,
    endpoints: Endpoints,
}

struct Agent<L> {
    info: AgentInfo<L>,
    offers: BTreeMap<ModelId, Offer>,
    /// Concurrent jobs over all models, as it reported.
    limit: usize,
    /// The largest frame that it takes, in bytes. `None`: no limit is known.
    max_message: Option<u64>,
    /// The most concurrent jobs that it had when it completed one.
    most_completed: usize,
    /// Whether it announced that it will stop.
    is_draining: bool,
    /// Its jobs, each with its model.
    jobs: HashMap<JobId, ModelId>,
    heartbeat: Option<Heartbeat>,
    /// The number of its last assignment. Among equal agents the one with the oldest assignment is next.
    last_assignment: u64,
}

impl<L> Agent<L> {
    fn serves(&self, model: &ModelId, endpoint: Endpoint) -> bool {
        self.offers.get(model).is_some_and(|offer| offer.endpoints.contains(endpoint))
    }

    /// The length of the largest `job` frame that it may be sent, if the coordinator sends at most `most` bytes.
    fn largest_job(&self, most: usize) -> usize {
        self.max_message.and_then(|bytes| usize::try_from(bytes).ok()).map_or(most, |bytes| bytes.min(most))
    }

    fn has_room_for(&self, model: &ModelId) -> bool {
        let of_model = self.jobs.values().filter(|other| *other == model).count();
        self.jobs.len() < self.limit && self.offers.get(model).is_some_and(|offer| of_model < offer.max_concurrent)
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

/// A job that needs an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The model.
    pub(crate) model: &'a ModelId,
    /// The path.
    pub(crate) endpoint: Endpoint,
    /// The length of its frame.
    pub(crate) length: FrameLength,
    /// The longest frame that the coordinator sends to any agent, in bytes.
    pub(crate) most: usize,
}

/// A booked slot.
#[derive(Debug)]
pub(crate) struct Assignment<L> {
    /// The agent's session.
    pub(crate) session: SessionId,
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
    /// All agents that offer it there are draining.
    Draining,
    /// No agent that offers it there and is not draining takes so large a frame.
    TooLarge {
        /// The largest frame that one of them takes, in bytes.
        limit: usize,
        /// The length of the frame for that agent, in bytes.
        length: usize,
    },
    /// All agents that offer it are at their limits or were tried.
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
            max_message: None,
            is_draining: false,
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
    /// models of an agent without the extension `endpoints`. The largest message counts only with the extension `sizes`.
    pub(crate) fn offer(&mut self, session: SessionId, offer: Capabilities) {
        let Some(agent) = self.agents.get_mut(&session) else { return };
        let names_paths = agent.info.extensions.contains(Extension::Endpoints);
        let names_size = agent.info.extensions.contains(Extension::Sizes);
        agent.max_message = offer.limits.max_message_bytes.filter(|_| names_size);
        agent.limit = (offer.limits.max_concurrent_total as usize).min(MOST_JOBS);
        agent.offers = offer
            .models
            .into_iter()
            .map(|model| {
                let max_concurrent = (model.max_concurrent as usize).min(MOST_JOBS);
                let endpoints = model.endpoints.filter(|_| names_paths).unwrap_or(Endpoints::BASE);
                (model.model_id, Offer { max_concurrent, context_window: model.context_window, endpoints })
            })
            .collect();
    }

    /// Stores an agent's heartbeat.
    pub(crate) fn heartbeat(&mut self, session: SessionId, figures: Heartbeat) {
        if let Some(agent) = self.agents.get_mut(&session) {
            agent.heartbeat = Some(figures);
        }
    }

    /// Books a slot for a job with the least loaded agent that offers the model at the path, is not draining, takes a frame of this
    /// length, and is not among those `tried`.
    pub(crate) fn assign(
        &mut self,
        wanted: &Wanted<'_>,
        job: JobId,
        tried: &[SessionId],
    ) -> Result<Assignment<L>, NoAgent> {
        let Wanted { model, endpoint, length, most } = *wanted;
        let mut no_agent = NoAgent::Unknown;
        let mut best: Option<(SessionId, &mut Agent<L>)> = None;
        for (session, agent) in &mut self.agents {
            if !agent.offers.contains_key(model) {
                continue;
            }
            if !agent.serves(model, endpoint) {
                no_agent = no_agent.max(NoAgent::NotAtEndpoint);
                continue;
            }
            if agent.is_draining {
                no_agent = no_agent.max(NoAgent::Draining);
                continue;
            }
            let (length, limit) = (length.for_agent(agent.info.extensions), agent.largest_job(most));
            if length > limit {
                no_agent = no_agent.max(NoAgent::TooLarge { limit, length });
                continue;
            }
            no_agent = NoAgent::Full;
            if tried.contains(session) || !agent.has_room_for(model) {
                continue;
            }
            if best.as_ref().is_none_or(|(_, best)| agent.is_preferred_to(best)) {
                best = Some((*session, agent));
            }
        }
        let (session, agent) = best.ok_or(no_agent)?;
        self.assignments += 1;
        agent.last_assignment = self.assignments;
        agent.jobs.insert(job, model.clone());
        let AgentInfo { provider, link, extensions, .. } = &agent.info;
        Ok(Assignment { session, provider: provider.clone(), link: link.clone(), extensions: *extensions })
    }

    /// Records that an agent will stop. `false` if that is known, or the agent is gone.
    pub(crate) fn drain(&mut self, session: SessionId) -> bool {
        self.agents.get_mut(&session).is_some_and(|agent| !std::mem::replace(&mut agent.is_draining, true))
    }

    /// Whether an agent may be sent a job with a frame of this length, in bytes. Not if it is draining or gone.
    pub(crate) fn accepts(&self, session: SessionId, length: usize) -> bool {
        let agent = self.agents.get(&session).filter(|agent| !agent.is_draining);
        agent.is_some_and(|agent| length <= agent.largest_job(usize::MAX))
    }

    /// Frees the slot of a job that its agent has completed. Nothing happens if the job is no longer held.
    pub(crate) fn complete(&mut self, session: SessionId, job: JobId) {
        let Some(agent) = self.agents.get_mut(&session) else { return };
        let held = agent.jobs.len();
        if agent.jobs.remove(&job).is_some() {
            agent.most_completed = agent.most_completed.max(held);
        }
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

    /// Jobs over all connected agents.
    pub(crate) fn in_flight(&self) -> usize {
        self.agents.values().map(|agent| agent.jobs.len()).sum()
    }

    /// Agents that are draining.
    pub(crate) fn draining(&self) -> usize {
        self.agents.values().filter(|agent| agent.is_draining).count()
    }

    /// Jobs that wait for agents without a connection.
    pub(crate) fn waiting(&self) -> usize {
        self.away.values().map(|agent| agent.jobs.len()).sum()
    }

    /// The links to all connected agents.
    pub(crate) fn links(&self) -> Vec<L> {
        self.agents.values().map(|agent| agent.info.link.clone()).collect()
    }

    /// Every model of the agents that are not draining, once, by its id.
    pub(crate) fn models(&self) -> Vec<ModelSummary> {
        let mut models: BTreeMap<&ModelId, ModelSummary> = BTreeMap::new();
        for agent in self.agents.values().filter(|agent| !agent.is_draining) {
            for (id, offer) in &agent.offers {
                let since = agent.info.since;
                let context_window = offer.context_window;
                let model = models.entry(id).or_insert(ModelSummary { id: id.clone(), context_window, since });
                model.context_window = model.context_window.max(context_window);
                model.since = model.since.min(since);
            }
        }
        models.into_values().collect()
    }

    /// All agents, in the order of their sessions.
    pub(crate) fn agents(&self) -> Vec<AgentSummary> {
        let summary = |agent: &Agent<L>| AgentSummary {
            provider_id: agent.info.provider.clone(),
            pubkey: agent.info.key.to_base64(),
            agent_version: agent.info.version.clone(),
            extensions: agent.info.extensions,
            connected_since: humantime::format_rfc3339_seconds(agent.info.since).to_string(),
            models: agent.offers.keys().cloned().collect(),
            max_concurrent: agent.limit,
            max_message_bytes: agent.max_message,
            slots: agent.offers.iter().map(|(id, offer)| (id.clone(), offer.max_concurrent)).collect(),
            in_flight: agent.jobs.len(),
            draining: agent.is_draining,
            heartbeat: agent.heartbeat.clone(),
        };
        self.agents.values().map(summary).collect()
    }
}
