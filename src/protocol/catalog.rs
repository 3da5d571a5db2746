//! What the agent offers, and who serves it.
//!
//! One map answers both: a model is on offer because it has a route, and its price and limit are those of that route.
//! A catalog is built whole from what discovery saw and never changed; two that are equal say the same to everybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ModelReport};
use crate::messages::endpoint::Endpoints;
use crate::messages::ids::{BackendId, ModelId};
use crate::messages::prices::{Price, PriceList};
use crate::messages::wire::ModelOffer;

/// The most models on offer.
const MOST_MODELS: usize = 4096;
/// The longest model id on offer, in bytes. A job that asks for a longer one is malformed.
const LONGEST_ID: usize = 512;
/// The unit in which a markup is added, so that 0.1 is a tenth and not what a binary fraction makes of it.
const MARKUP_UNIT: u128 = 1_000_000_000;

/// What the operator says of one backend.
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

/// A healthy backend and what the operator says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What the latest probe saw.
    pub report: BackendReport,
    /// What the operator says.
    pub policy: BackendPolicy,
}

/// What the operator says of all backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What models cost before a backend's markup.
    pub prices: PriceList,
    /// Jobs at once over all backends.
    pub max_concurrent: u32,
}

/// Who serves a model, and on what terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The backend that jobs for the model go to.
    pub backend: BackendId,
    /// Jobs at once on that backend, over all its models.
    pub limit: u32,
    /// What that backend can do with the model.
    pub endpoints: Endpoints,
    /// What the coordinator is told.
    pub offer: ModelOffer,
}

/// The models on offer, each with its one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    routes: BTreeMap<ModelId, Route>,
}

impl Catalog {
    /// Gives each model to the best backend that reports it and may serve it: local before remote, then in the order of
    /// kinds, then by name.
    ///
    /// Not on offer: a model whose price is 0, and one whose id is empty, longer than 512 bytes, or has control
    /// characters. Past 4096 models the rest is left out, the least preferred backends' first, then by id.
    pub fn build(seen: &BTreeMap<BackendId, Seen>, terms: &Terms) -> Self {
        let mut by_preference: Vec<(&BackendId, &Seen)> = seen.iter().collect();
        by_preference.sort_by_key(|(id, seen)| preference(id, seen));
        let mut routes = BTreeMap::new();
        for (id, seen) in by_preference {
            for model in offerable(seen) {
                if routes.len() >= MOST_MODELS {
                    return Self { routes };
                }
                let price = terms.prices.of(&model.id);
                if !price.is_zero() && !routes.contains_key(&model.id) {
                    routes.insert(model.id.clone(), route(id, seen, model, price, terms));
                }
            }
        }
        Self { routes }
    }

    /// Who serves a model. `None` where it is not on offer.
    pub fn route(&self, model: &ModelId) -> Option<&Route> {
        self.routes.get(model)
    }

    /// All routes, in the order of model ids.
    pub fn routes(&self) -> impl Iterator<Item = (&ModelId, &Route)> {
        self.routes.iter()
    }

    /// What the coordinator is told, in the order of model ids.
    pub fn offers(&self) -> Vec<ModelOffer> {
        self.routes.values().map(|route| route.offer.clone()).collect()
    }

    /// Whether nothing is on offer.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// How many models are on offer.
    pub fn len(&self) -> usize {
        self.routes.len()
    }
}

/// The key that sorts the backends to prefer first.
fn preference<'a>(id: &'a BackendId, seen: &Seen) -> (std::cmp::Reverse<bool>, BackendKind, &'a BackendId) {
    (std::cmp::Reverse(seen.policy.local), seen.report.kind, id)
}

/// A backend's models that may be offered, in the order of ids, so that what is left out does not change with the order in
/// which a server lists them. Of a model mentioned twice the first mention comes first.
fn offerable(seen: &Seen) -> Vec<&ModelReport> {
    let allowed = |id: &ModelId| seen.policy.only.as_ref().is_none_or(|only| only.contains(id));
    let mut models: Vec<&ModelReport> =
        seen.report.models.iter().filter(|model| is_sound(&model.id) && allowed(&model.id)).collect();
    models.sort_by(|a, b| a.id.cmp(&b.id));
    models
}

fn is_sound(id: &ModelId) -> bool {
    let id = id.as_str();
    (1..=LONGEST_ID).contains(&id.len()) && !id.contains(char::is_control)
}

fn route(id: &BackendId, seen: &Seen, model: &ModelReport, price: Price, terms: &Terms) -> Route {
    let limit = limit(seen, terms);
    Route {
        backend: id.clone(),
        limit,
        endpoints: model.endpoints,
        offer: ModelOffer {
            model_id: model.id.clone(),
            input_per_1m: marked_up(price.input_per_1m, seen.policy.markup),
            output_per_1m: marked_up(price.output_per_1m, seen.policy.markup),
            max_concurrent: limit,
            backend: seen.report.kind.as_str().to_owned(),
            context_window: model.context_window,
            endpoints: Some(model.endpoints),
        },
    }
}

/// The operator's limit for the backend, else the slots that the server reports, else the limit of the whole agent; at
/// least 1 and at most that of the whole agent.
fn limit(seen: &Seen, terms: &Terms) -> u32 {
    let limit = seen.policy.max_concurrent.or(seen.report.slots).unwrap_or(terms.max_concurrent);
    limit.min(terms.max_concurrent).max(1)
}

/// The price and the markup's part of it, to the billionth, rounded up to a whole unit. Saturates.
fn marked_up(price: u64, markup: f64) -> u64 {
    // The cast saturates, and makes 0 of what is negative or no number.
    let parts = (markup * MARKUP_UNIT as f64).round() as u64;
    let added = (u128::from(price) * u128::from(parts)).div_ceil(MARKUP_UNIT);
    u64::try_from(u128::from(price).saturating_add(added)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
