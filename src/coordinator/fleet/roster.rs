//! The connected agents, their offers and their jobs. Pure: no sockets, no clock, no locks.
//!
//! The roster is generic over the link to an agent, so that its tests need no sessions. The jobs of an agent are a set. Their
//! number is the size of the set and is not stored anywhere else. An agent whose session waits for its return is not on the
//! roster, and gets no jobs, but it keeps its number and its set.

use std::collections::{BTreeMap, HashMap};

use super::demand::{Demand, FrameLength};
use super::retry::Tries;
use crate::coordinator::agents::handshake::AgentKey;
use crate::messages::endpoint::Endpoints;
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::{Capabilities, Extension, Extensions, Heartbeat};

mod agent;
mod summary;

pub(crate) use agent::AgentInfo;
use agent::{Agent, MOST_JOBS, Offer};
pub(crate) use summary::{AgentSummary, ModelSummary};

#[cfg(any(test, fuzzing))]
mod fingerprint;
#[cfg(test)]
mod tests;

/// The number of a session in this process. An agent that reconnects gets another one, unless its session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

#[cfg(any(test, fuzzing))]
impl SessionId {
    /// A session for tests without a roster.
    pub(crate) fn numbered(number: usize) -> Self {
        Self(number as u64)
    }
}

/// The connected agents and their jobs.
#[derive(Clone)]
pub(crate) struct Roster<L> {
    agents: BTreeMap<SessionId, Agent<L>>,
    /// Agents without a connection, whose jobs wait for their return.
    away: BTreeMap<SessionId, Agent<L>>,
    sessions: u64,
    assignments: u64,
    /// The longest `job` frame that any agent is sent, in bytes.
    longest_job: usize,
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

/// Why no agent gets a job now. If there are several reasons, the greatest one is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoAgent {
    /// No agent offers the model.
    Unknown,
    /// No agent that offers the model offers it at the path.
    NotAtEndpoint,
    /// No agent that offers it there takes so large a frame.
    TooLarge {
        /// The largest frame that one of them takes, in bytes.
        limit: usize,
        /// The length of the frame for that agent, in bytes.
        length: usize,
    },
    /// All agents that offer it there have failed the request.
    Tried,
    /// All others that offer it there are draining.
    Draining,
    /// All others that offer it there and are not draining have no connection. They may come back.
    Away,
    /// All others that offer it there are at their limits.
    Full,
}

impl<L: Clone> Roster<L> {
    /// A roster without agents, each of which is sent frames of up to so many bytes.
    pub(crate) fn new(longest_job: usize) -> Self {
        Self { agents: BTreeMap::new(), away: BTreeMap::new(), sessions: 0, assignments: 0, longest_job }
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
            has_offered: false,
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

    /// The session of an agent goes on over another connection. The agent keeps its jobs, and gets no other ones until it sends
    /// its offer again. Returns the link of its old connection, if that still exists.
    pub(crate) fn rejoin(&mut self, session: SessionId, info: AgentInfo<L>) -> Option<L> {
        let connected = self.agents.remove(&session);
        let link = connected.as_ref().map(|agent| agent.info.link.clone());
        let agent = connected.or_else(|| self.away.remove(&session));
        let rejoined = agent.map(|agent| (session, Agent { info, has_offered: false, ..agent }));
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
        agent.has_offered = true;
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

    /// Books a slot for a job with the least loaded agent that serves the demand, takes a frame of this length, and may get a
    /// request that failed like this before.
    pub(crate) fn assign(
        &mut self,
        demand: &Demand,
        length: FrameLength,
        tries: &Tries,
        job: JobId,
    ) -> Result<Assignment<L>, NoAgent> {
        let mut no_agent = NoAgent::Unknown;
        let mut best: Option<(SessionId, &Agent<L>)> = None;
        let connected = self.agents.iter().map(|(session, agent)| (*session, agent, agent.has_offered));
        let away = self.away.iter().map(|(session, agent)| (*session, agent, false));
        for (session, agent, is_here) in connected.chain(away) {
            if let Err(never) = self.suits(agent, demand, length, tries) {
                no_agent = no_agent.max(never);
            } else if agent.is_draining {
                no_agent = no_agent.max(NoAgent::Draining);
            } else if !is_here {
                no_agent = no_agent.max(NoAgent::Away);
            } else {
                no_agent = NoAgent::Full;
                if agent.has_room_for(&demand.model) && best.is_none_or(|(_, best)| agent.is_preferred_to(best)) {
                    best = Some((session, agent));
                }
            }
        }
        let (session, _) = best.ok_or(no_agent)?;
        self.book(session, &demand.model, job).ok_or(no_agent)
    }

    /// Whether an agent could get a job if it had a slot, or why not.
    fn suits(&self, agent: &Agent<L>, demand: &Demand, length: FrameLength, tries: &Tries) -> Result<(), NoAgent> {
        if !agent.offers.contains_key(&demand.model) {
            return Err(NoAgent::Unknown);
        }
        if !agent.serves(demand) {
            return Err(NoAgent::NotAtEndpoint);
        }
        let (length, limit) = (length.for_agent(agent.info.extensions), agent.largest_job(self.longest_job));
        if length > limit {
            return Err(NoAgent::TooLarge { limit, length });
        }
        if tries.rule_out(agent.info.key) { Err(NoAgent::Tried) } else { Ok(()) }
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

    /// Whether an agent takes jobs, serves the demand, and has a slot for it.
    pub(crate) fn has_slot(&self, session: SessionId, demand: &Demand) -> bool {
        let agent = self.agents.get(&session).filter(|agent| agent.takes_jobs());
        agent.is_some_and(|agent| agent.serves(demand) && agent.has_room_for(&demand.model))
    }

    /// Whether an agent that serves the demand takes a frame of this length and may get a request that failed like this before.
    pub(crate) fn may_get(&self, session: SessionId, demand: &Demand, length: FrameLength, tries: &Tries) -> bool {
        self.agents.get(&session).is_some_and(|agent| self.suits(agent, demand, length, tries).is_ok())
    }

    /// Whether there is an agent that may get such a request, now or when it has a slot or a connection again.
    pub(crate) fn may_ever_get(&self, demand: &Demand, length: FrameLength, tries: &Tries) -> bool {
        let mut agents = self.agents.values().chain(self.away.values()).filter(|agent| !agent.is_draining);
        agents.any(|agent| self.suits(agent, demand, length, tries).is_ok())
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
}
