//! What a look at a backend found.

use serde::Serialize;

use super::backend::BackendKind;
use super::ids::ModelId;

/// A model as its backend describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// The id to ask the backend for.
    pub id: ModelId,
    /// Tokens of context that one request can use, where the backend says so.
    pub context_window: Option<u64>,
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
    /// Whether it serves `/v1/messages`.
    pub messages: bool,
}
