//! Prices of models.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ids::ModelId;

/// A price in micro-units of USD per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Price {
    /// For tokens of the prompt.
    pub input_per_1m: u64,
    /// For generated tokens.
    pub output_per_1m: u64,
}

impl Price {
    /// Whether both prices are 0. Such a model is not offered.
    pub fn is_zero(self) -> bool {
        self.input_per_1m == 0 && self.output_per_1m == 0
    }
}

/// The operator's prices: a default, and models with a price of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceList {
    /// For every model that is not in `by_model`.
    pub default: Price,
    /// Models with a price of their own.
    pub by_model: BTreeMap<ModelId, Price>,
}
