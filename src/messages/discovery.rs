//! Probe results: a healthy backend and its models, or why there is none.

use serde::Serialize;

use super::backend::BackendKind;
use super::endpoint::Endpoints;
use super::ids::ModelId;
use super::prices::Price;

/// A model as its backend describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// The id by which the backend knows it.
    pub id: ModelId,
    /// Tokens of context that one request can use, if the backend reports it.
    pub context_window: Option<u64>,
    /// The endpoints that were verified to work with it.
    pub endpoints: Endpoints,
    /// The price that the backend publishes, if any.
    pub price: Option<Price>,
}

/// The result of one probe of a healthy backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendReport {
    /// The kind of server.
    pub kind: BackendKind,
    /// The models it can serve now.
    pub models: Vec<ModelReport>,
    /// Concurrent requests it can serve, if it reports that.
    pub slots: Option<u32>,
    /// Active requests of all its clients, if it reports that.
    pub active_requests: Option<u32>,
    /// Models that it lists and forwards to a service on the account of its owner. They are not offered.
    pub cloud_models: usize,
}

impl BackendReport {
    /// Whether the offer is the same. Active requests are not compared: they change all the time.
    pub fn same_offer(&self, other: &Self) -> bool {
        let Self { kind, models, slots, active_requests: _, cloud_models: _ } = self;
        (kind, models, slots) == (&other.kind, &other.models, &other.slots)
    }
}

/// Why a probe found no healthy backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens there, or the connection broke.
    #[error("no connection")]
    Unreachable,
    /// The server wants a key, or another one.
    #[error("the server refuses the API key or wants one")]
    Unauthorized,
    /// The server is starting: it reports that it is not ready.
    #[error("not ready")]
    NotReady,
    /// The answer is not that of such a server.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
    /// The probe's timeout passed.
    #[error("no answer in time")]
    TimedOut,
}
