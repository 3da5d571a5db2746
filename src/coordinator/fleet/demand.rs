//! What a request needs of an agent.

use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;
use crate::messages::wire::{Extension, Extensions};

/// What a request needs of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demand {
    /// The model.
    pub(crate) model: ModelId,
    /// The API path.
    pub(crate) endpoint: Endpoint,
}

/// The length of a `job` frame in bytes. Only agents with the extension `endpoints` are sent the path and the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameLength {
    /// To an agent of the base protocol.
    pub(crate) base: usize,
    /// To an agent with `endpoints`.
    pub(crate) with_target: usize,
}

impl FrameLength {
    /// The length for an agent with which these extensions were agreed on.
    pub(crate) fn for_agent(self, agreed: Extensions) -> usize {
        if agreed.contains(Extension::Endpoints) { self.with_target } else { self.base }
    }

    /// The same length for every agent.
    #[cfg(any(test, fuzzing))]
    pub(crate) const fn of(length: usize) -> Self {
        Self { base: length, with_target: length }
    }
}
