//! Which of a model's routes a job takes.
//!
//! Among the routes that can take the job, those of the best rank are looked at, and of them those that serve the endpoint
//! themselves before those that translate. Only where none of these has room, the next are looked at: the order of ranks
//! is binding, load decides among equals. Of equals the job takes its conversation's backend, whose prefix cache is warm,
//! unless that is much more loaded than the least loaded; else the least loaded, the one with the fewest jobs, the first
//! by name. The same question has the same answer. Driven by the router, for a new job and for one that fails over.
//!
//! A route with less context than the job needs is passed over while another has enough, be it full: a job that fits the
//! offer must not fail for where it was sent. Where no route has enough, by an estimate that may be wrong, the job goes to
//! where there is most, whose refusal names the true numbers. A context that is not known counts as enough.

use std::cmp::Reverse;

use super::route::{Route, Service};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::BackendId;

/// How much more loaded than the least loaded a conversation's backend may be, in thousandths of its slots. Half: beyond
/// that, others' work slows the answer by more than the cached prefix saves.
const WARMTH: u32 = 500;

/// What a job asks of a route.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The API path.
    pub endpoint: Endpoint,
    /// Tokens of context, by estimate: of the prompt and of the answer asked for.
    pub context: u64,
    /// The backend that served the conversation last.
    pub sticky: Option<&'a BackendId>,
    /// Backends that failed the job already.
    pub tried: &'a [BackendId],
}

/// How a backend stands at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether its breaker lets a job through.
    pub admits: bool,
    /// Jobs that it has room for.
    pub free: u32,
    /// How full it is, in thousandths, whoever's the work is.
    pub load: u32,
    /// Jobs of ours that it works.
    pub jobs: u32,
}

/// Where a job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The route.
    pub route: &'a Route,
    /// How it serves the job's endpoint.
    pub service: Service,
}

/// Why a job has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrouted {
    /// No route serves the endpoint.
    #[error("no backend of the model has the API path that the job asks for")]
    NoneServes,
    /// Every backend that could take the job has failed it.
    #[error("every backend of the model has failed the job")]
    AllTried,
    /// Of those that could take it, each is being set up.
    #[error("the model's backends are being set up")]
    NoneReady,
    /// Of those that could take it, each is kept from by its breaker, or is being set up.
    #[error("every backend of the model has failed too often of late")]
    AllBroken,
    /// Of those that could take it, at least one is only full: it may have room soon.
    #[error("every slot of the model's backends is taken")]
    AllFull,
}

/// The routes that can take the job where they stand well: those that serve the endpoint, have enough context and have not
/// failed it.
pub fn fit<'a>(routes: &'a [Route], demand: &Demand<'_>) -> impl Iterator<Item = Choice<'a>> {
    let Demand { endpoint, context, tried, .. } = *demand;
    let serving =
        move || routes.iter().filter_map(move |route| Some(Choice { route, service: route.serves(endpoint)? }));
    // Of what is not enough for the job, the most is.
    let most = serving().map(|choice| window(choice.route)).max().unwrap_or_default();
    let enough = move |choice: &Choice<'_>| window(choice.route) >= most.min(context);
    serving().filter(enough).filter(move |choice| !tried.contains(&choice.route.backend))
}

/// Chooses among a model's routes. `standing` says how a backend stands, or nothing of one that is not set up yet.
pub fn choose<'a>(
    routes: &'a [Route],
    demand: &Demand<'_>,
    standing: impl Fn(&BackendId) -> Option<Standing>,
) -> Result<Choice<'a>, Unrouted> {
    let served = routes.iter().any(|route| route.serves(demand.endpoint).is_some());
    let mut why = if served { Unrouted::AllTried } else { Unrouted::NoneServes };
    let mut open: Vec<(Choice<'a>, Standing)> = Vec::new();
    for choice in fit(routes, demand) {
        let obstacle = match standing(&choice.route.backend) {
            None => Unrouted::NoneReady,
            Some(standing) if !standing.admits => Unrouted::AllBroken,
            Some(standing) if standing.free == 0 => Unrouted::AllFull,
            Some(standing) => {
                open.push((choice, standing));
                continue;
            }
        };
        why = hopeful(why, obstacle);
    }

    let tier = |choice: &Choice<'_>| (choice.route.rank(), choice.service);
    let best = open.iter().map(|(choice, _)| tier(choice)).min().ok_or(why)?;
    open.retain(|(choice, _)| tier(choice) == best);
    let least = open.iter().map(|(_, standing)| standing.load).min().unwrap_or_default();
    let is_warm = |(choice, standing): &(Choice<'_>, Standing)| {
        demand.sticky == Some(&choice.route.backend) && standing.load <= least.saturating_add(WARMTH)
    };
    let order =
        |open: &(Choice<'a>, Standing)| (Reverse(is_warm(open)), open.1.load, open.1.jobs, &open.0.route.backend);
    open.iter().min_by_key(|open| order(open)).map(|(choice, _)| *choice).ok_or(why)
}

/// A route's context, where one that is not known is as large as can be.
fn window(route: &Route) -> u64 {
    route.context_window.unwrap_or(u64::MAX)
}

/// The reason that leaves more hope.
fn hopeful(a: Unrouted, b: Unrouted) -> Unrouted {
    let hope = |why| match why {
        Unrouted::NoneServes => 0,
        Unrouted::AllTried => 1,
        Unrouted::NoneReady => 2,
        Unrouted::AllBroken => 3,
        Unrouted::AllFull => 4,
    };
    if hope(b) > hope(a) { b } else { a }
}

#[cfg(test)]
mod tests;
