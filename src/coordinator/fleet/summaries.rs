//! What clients and operators see of the roster.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

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
