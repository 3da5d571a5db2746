//! The agents and their models as clients and operators see them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::{Agent, Roster};
use crate::messages::ids::{ModelId, ProviderId};
use crate::messages::wire::{Extensions, Heartbeat};

/// A model as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelSummary {
    /// The model.
    pub(crate) id: ModelId,
    /// The largest context window that an agent reports for it, in tokens.
    pub(crate) context_window: Option<u64>,
    /// When the first agent that offers it connected.
    pub(crate) since: SystemTime,
}

/// An agent as operators see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct AgentSummary {
    /// Its name.
    pub(crate) provider_id: ProviderId,
    /// Base64 of its public key.
    pub(crate) pubkey: String,
    /// The version that it reported.
    pub(crate) agent_version: String,
    /// The extensions that were agreed on.
    pub(crate) extensions: Extensions,
    /// RFC 3339.
    pub(crate) connected_since: String,
    /// The models that it offers.
    pub(crate) models: Vec<ModelId>,
    /// Its limit of concurrent jobs.
    pub(crate) max_concurrent: usize,
    /// The largest frame that it takes, in bytes, if it reported one.
    pub(crate) max_message_bytes: Option<u64>,
    /// Its limit of concurrent jobs of each model, at the moment.
    pub(crate) slots: BTreeMap<ModelId, usize>,
    /// Its jobs.
    pub(crate) in_flight: usize,
    /// Whether it announced that it will stop.
    pub(crate) draining: bool,
    /// Its last heartbeat.
    pub(crate) heartbeat: Option<Heartbeat>,
}

impl<L> Roster<L> {
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
