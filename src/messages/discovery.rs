//! What a look at a backend found.

use serde::Serialize;

use super::backend::BackendKind;
use super::endpoint::Endpoints;
use super::ids::ModelId;
use super::prices::Price;

/// A model as its backend describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// The id to ask the backend for.
    pub id: ModelId,
    /// Tokens of context that one request can use, where the backend says so.
    pub context_window: Option<u64>,
    /// What its backend can do with it, as far as that was proved.
    pub endpoints: Endpoints,
    /// What the backend itself takes for it, where it publishes a price.
    pub price: Option<Price>,
}

/// A healthy backend, as one probe saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendReport {
    /// The kind of server.
    pub kind: BackendKind,
    /// The models it can serve now.
    pub models: Vec<ModelReport>,
    /// Requests it works at once, where the server says so.
    pub slots: Option<u32>,
    /// Requests it works right now, whoever's they are, where the server says so.
    pub busy: Option<u32>,
    /// Models that it lists and forwards to a service on the account of its owner. They are not offered.
    pub cloud_models: usize,
}

impl BackendReport {
    /// Whether it offers the same. How busy the backend is changes all the time.
    pub fn same_offer(&self, other: &Self) -> bool {
        let Self { kind, models, slots, busy: _, cloud_models: _ } = self;
        (kind, models, slots) == (&other.kind, &other.models, &other.slots)
    }
}
