//! The operator's settings for one backend.

use std::collections::BTreeSet;

use crate::messages::ids::ModelId;

/// The operator's settings for one backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendPolicy {
    /// If set, only these models are offered.
    pub only: Option<BTreeSet<ModelId>>,
    /// The most concurrent jobs on this backend, if set.
    pub max_concurrent: Option<u32>,
    /// The fraction added to the price, 0.2 for a fifth. A negative one or NaN counts as 0.
    pub markup: f64,
    /// Whether the backend is on this host or network.
    pub local: bool,
}
