//! One agent on the roster: what it offers, and what it does at the moment.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use crate::coordinator::agents::handshake::AgentKey;
use crate::coordinator::fleet::demand::Demand;
use crate::messages::endpoint::Endpoints;
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::{Extensions, Heartbeat};

/// The most concurrent jobs of an agent. An agent can't be configured for more.
pub(super) const MOST_JOBS: usize = 4096;
/// The most slots of a new agent that count when agents are compared.
const FIRST_SLOTS: usize = 8;

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
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) max_concurrent: usize,
    pub(super) context_window: Option<u64>,
    pub(super) endpoints: Endpoints,
    /// The concurrent jobs over all models at which the agent has refused one of this model as full.
    pub(super) full_at: Option<usize>,
}

/// An agent that is connected, or whose session waits for its return.
#[derive(Clone)]
pub(super) struct Agent<L> {
    pub(super) info: AgentInfo<L>,
    pub(super) offers: BTreeMap<ModelId, Offer>,
    /// Concurrent jobs over all models, as it reported.
    pub(super) limit: usize,
    /// The largest frame that it takes, in bytes. `None`: no limit is known.
    pub(super) max_message: Option<u64>,
    /// Whether it has sent an offer on its connection. Until then it gets no jobs.
    pub(super) has_offered: bool,
    /// Whether it announced that it will stop.
    pub(super) is_draining: bool,
    /// The most concurrent jobs that it had when it completed one.
    pub(super) most_completed: usize,
    /// Its jobs, each with its model.
    pub(super) jobs: HashMap<JobId, ModelId>,
    pub(super) heartbeat: Option<Heartbeat>,
    /// The number of its last assignment. Among equal agents the one with the oldest assignment is next.
    pub(super) last_assignment: u64,
}

impl<L> Agent<L> {
    pub(super) fn takes_jobs(&self) -> bool {
        self.has_offered && !self.is_draining
    }

    pub(super) fn serves(&self, demand: &Demand) -> bool {
        self.offers.get(&demand.model).is_some_and(|offer| offer.endpoints.contains(demand.endpoint))
    }

    /// The length of the largest `job` frame that it may be sent, if the coordinator sends at most `most` bytes.
    pub(super) fn largest_job(&self, most: usize) -> usize {
        self.max_message.and_then(|bytes| usize::try_from(bytes).ok()).map_or(most, |bytes| bytes.min(most))
    }

    pub(super) fn has_room_for(&self, model: &ModelId) -> bool {
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
    pub(super) fn is_preferred_to(&self, other: &Self) -> bool {
        // a/b < c/d without a division. Slots are not 0 if there is room.
        let load = (self.jobs.len() * other.credible_slots()).cmp(&(other.jobs.len() * self.credible_slots()));
        load.then(self.jobs.len().cmp(&other.jobs.len())).then(self.last_assignment.cmp(&other.last_assignment)).is_lt()
    }
}
