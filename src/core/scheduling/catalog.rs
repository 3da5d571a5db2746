//! What the agent offers, and which backends serve it.
//!
//! One map answers both: a model is offered because it has a route, and its offer is made of its routes. A catalog is built
//! as a whole from the results of discovery and never changed. Equal catalogs make equal offers.
//!
//! The offer of a model, and why it can be kept:
//!
//! - Its routes are in the order of preference: local before remote, then in the order of kinds, then by name.
//! - The price is that of the first route. A backend with a higher price, for prompts or answers, does not become a route
//!   of the model: a retry there would lose the operator money.
//! - The context is that of the first route. The routes that are known to have at least as much count: `max_concurrent` is
//!   the sum of their limits, at most the agent's, so that as many jobs of the full context have a slot. The endpoints are
//!   those of any of them, including messages by translation. The other routes take jobs that fit them. If the first
//!   route's context is unknown, none is offered, and every route counts.

use std::collections::BTreeMap;

use super::route::{Rank, Route};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ModelReport};
use crate::messages::endpoint::Endpoints;
use crate::messages::ids::{BackendId, ModelId};
use crate::messages::prices::{Price, PriceList};
use crate::messages::wire::{LONGEST_MODEL_ID, MOST_MODELS, ModelOffer};

mod policy;
mod pricing;

pub use policy::BackendPolicy;

/// A healthy backend and the operator's settings of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// The result of the latest probe.
    pub report: BackendReport,
    /// The operator's settings.
    pub policy: BackendPolicy,
}

/// The operator's settings of all backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The prices of models, before a backend's markup.
    pub prices: PriceList,
    /// The most concurrent jobs over all backends.
    pub max_concurrent: u32,
}

/// An offered model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// Its routes, the best first. Never empty.
    pub routes: Vec<Route>,
    /// The offer while every backend takes as many jobs as its limit.
    pub offer: ModelOffer,
    /// The most concurrent jobs over all backends.
    most: u32,
}

impl Model {
    /// Makes a model of routes in the order of preference. Routes with a higher price than the first are left out. `None`
    /// without a route.
    fn new(id: ModelId, mut routes: Vec<Route>, terms: &Terms) -> Option<Self> {
        let (price, kind) = routes.first().map(|first| (first.price, first.kind))?;
        routes.retain(|route| pricing::covers(price, route.price));
        let most = terms.max_concurrent.max(1);
        let promise = Promise::of(routes.iter().map(|route| (route, route.limit)), most)?;
        let offer = ModelOffer {
            model_id: id,
            input_per_1m: price.input_per_1m,
            output_per_1m: price.output_per_1m,
            max_concurrent: promise.max_concurrent,
            backend: kind.as_str().to_owned(),
            context_window: promise.context_window,
            endpoints: Some(promise.endpoints),
        };
        Some(Self { routes, offer, most })
    }

    /// What a job costs, wherever it is worked.
    pub(crate) fn price(&self) -> Price {
        Price { input_per_1m: self.offer.input_per_1m, output_per_1m: self.offer.output_per_1m }
    }

    /// The offer while each backend takes at most `usable` concurrent jobs of ours, limited by its route. Routes of
    /// backends with 0 are ignored, but the price stays. `None`: no backend takes any job, so the model is not offered.
    pub(crate) fn offer_now(&self, usable: impl Fn(&BackendId) -> u32) -> Option<ModelOffer> {
        let limits = self.routes.iter().map(|route| (route, usable(&route.backend).min(route.limit)));
        let Promise { max_concurrent, context_window, kind, endpoints } = Promise::of(limits, self.most)?;
        let (model_id, backend) = (self.offer.model_id.clone(), kind.as_str().to_owned());
        let endpoints = Some(endpoints);
        Some(ModelOffer { model_id, max_concurrent, context_window, backend, endpoints, ..self.offer })
    }
}

/// The part of an offer that depends on the available backends.
struct Promise {
    kind: BackendKind,
    context_window: Option<u64>,
    max_concurrent: u32,
    endpoints: Endpoints,
}

impl Promise {
    /// The offer of routes with these limits. `None` if every limit is 0.
    fn of<'a>(limits: impl Iterator<Item = (&'a Route, u32)>, most: u32) -> Option<Self> {
        let mut limits = limits.filter(|(_, limit)| *limit > 0);
        let (first, limit) = limits.next()?;
        let (mut max_concurrent, mut endpoints) = (limit, first.served());
        for (route, limit) in limits {
            if route.assures(first.context_window) {
                endpoints = endpoints.union(route.served());
                max_concurrent = max_concurrent.saturating_add(limit);
            }
        }
        let max_concurrent = max_concurrent.min(most);
        Some(Self { kind: first.kind, context_window: first.context_window, max_concurrent, endpoints })
    }
}

/// The offered models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    models: BTreeMap<ModelId, Model>,
}

impl Catalog {
    /// Gives each model a route to every backend that reports it and may serve it, the best first.
    ///
    /// Not offered: a model without a price, a model without an endpoint on any backend, and a model whose id is empty,
    /// longer than 512 bytes, or has control characters. Models beyond 4096 are left out: those of the least preferred
    /// backends first, then by id.
    pub(crate) fn build(seen: &BTreeMap<BackendId, Seen>, terms: &Terms) -> Self {
        let mut by_preference: Vec<(&BackendId, &Seen)> = seen.iter().collect();
        by_preference.sort_by_key(|(id, seen)| (Rank::new(seen.policy.local, seen.report.kind), *id));
        let mut routes: BTreeMap<ModelId, Vec<Route>> = BTreeMap::new();
        for (id, seen) in by_preference {
            for model in offerable(seen) {
                let Some(route) = route(id, seen, model, terms) else { continue };
                if routes.len() < MOST_MODELS || routes.contains_key(&model.id) {
                    routes.entry(model.id.clone()).or_default().push(route);
                }
            }
        }
        let models = routes.into_iter().filter_map(|(id, routes)| Some((id.clone(), Model::new(id, routes, terms)?)));
        Self { models: models.collect() }
    }

    /// An offered model.
    pub(crate) fn model(&self, id: &ModelId) -> Option<&Model> {
        self.models.get(id)
    }

    /// All offered models, in the order of their ids.
    pub(crate) fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.values()
    }

    /// Each backend to which a model has a route, once, with one of its routes. Limit and slots are the same in all.
    pub(crate) fn backends(&self) -> BTreeMap<&BackendId, &Route> {
        self.models().flat_map(|model| &model.routes).map(|route| (&route.backend, route)).collect()
    }

    /// Whether no model is offered.
    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }
}

/// A backend's models that may be offered, each once, in the order of ids, so that the order in which a server lists them
/// does not matter. If a model is listed twice, the first entry counts.
fn offerable(seen: &Seen) -> Vec<&ModelReport> {
    let allowed = |id: &ModelId| seen.policy.only.as_ref().is_none_or(|only| only.contains(id));
    let mut models: Vec<&ModelReport> =
        seen.report.models.iter().filter(|model| is_sound(&model.id) && allowed(&model.id)).collect();
    models.sort_by(|a, b| a.id.cmp(&b.id));
    models.dedup_by(|later, first| later.id == first.id);
    models
}

fn is_sound(id: &ModelId) -> bool {
    let id = id.as_str();
    (1..=LONGEST_MODEL_ID).contains(&id.len()) && !id.contains(char::is_control)
}

/// A backend's route for one of its models. `None`: it has no price there, or no endpoint.
fn route(id: &BackendId, seen: &Seen, model: &ModelReport, terms: &Terms) -> Option<Route> {
    let price = pricing::price(&terms.prices, &seen.policy, model)?;
    let route = Route {
        backend: id.clone(),
        kind: seen.report.kind,
        local: seen.policy.local,
        limit: limit(seen, terms),
        slots: seen.report.slots,
        endpoints: model.endpoints,
        context_window: model.context_window,
        price,
    };
    (!route.endpoints.is_empty()).then_some(route)
}

/// The operator's limit for the backend, else the slots that the server reports, else the limit of the whole agent; at
/// least 1 and at most that of the whole agent.
fn limit(seen: &Seen, terms: &Terms) -> u32 {
    let limit = seen.policy.max_concurrent.or(seen.report.slots).unwrap_or(terms.max_concurrent);
    limit.min(terms.max_concurrent).max(1)
}

#[cfg(test)]
mod tests;
