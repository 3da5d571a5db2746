//! The operator's settings for one backend.

use std::collections::BTreeSet;

use crate::messages::ids::ModelId;

/// The operator's settings for one backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendPolicy {
    /// Only these models, where given.
    pub only: Option<BTreeSet<ModelId>>,
    /// Jobs at once on this backend, where given.
    pub max_concurrent: Option<u32>,
    /// The fraction added to the price, 0.2 for a fifth. One that is negative or no number counts as 0.
    pub markup: f64,
    /// Whether the backend is on this host or network.
    pub local: bool,
}
