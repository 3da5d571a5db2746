//! Chooses which of a model's routes a job takes.
//!
//! Of the routes that can take the job now, those of the best rank count, and of them those that serve the endpoint
//! natively before those that translate. The next rank counts only if all of these are full: the order of ranks is binding,
//! and load decides among equals. Among equals the job takes the backend of its conversation, whose prefix cache is warm,
//! unless that backend is much more loaded than the least loaded one. Otherwise it takes the least loaded, then the one
//! with the fewest jobs, then the first by name. The result depends only on the arguments. Used by the router, for new jobs
//! and for retries.
//!
//! A route with less context than the job needs is skipped while another route has enough, even if that one is full: a job
//! that fits the offer must not fail because of the chosen backend. If by the estimate, which may be wrong, no route has
//! enough, the job goes to the one with the most context, whose error message contains the true numbers. An unknown context
//! counts as enough.

use std::cmp::Reverse;

use super::route::{Route, Service};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::BackendId;

/// How much more loaded than the least loaded one a conversation's backend may be, in thousandths of its slots. Above a
/// half, the load slows the answer by more than the cached prefix saves.
const WARMTH: u32 = 500;

/// What a job requires of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand<'a> {
    /// The API path.
    pub endpoint: Endpoint,
    /// Tokens of context, by estimate: of the prompt and of the requested answer.
    pub context: u64,
    /// The backend that served the conversation last.
    pub sticky: Option<&'a BackendId>,
    /// Backends that failed the job before.
    pub tried: &'a [BackendId],
}

/// The current state of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether its breaker lets a job through.
    pub admits: bool,
    /// How many more jobs fit.
    pub free: u32,
    /// Its load, in thousandths, of all clients.
    pub load: u32,
    /// Jobs of ours that are running there.
    pub jobs: u32,
}

/// The route of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    /// The route.
    pub route: &'a Route,
    /// How it serves the job's endpoint.
    pub service: Service,
}

/// Why a job has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrouted {
    /// No route serves the endpoint.
    #[error("no backend of the model has the API path of the job")]
    NoneServes,
    /// Every backend that could take the job has failed it.
    #[error("every backend of the model has failed the job")]
    AllTried,
    /// All backends that could take it are still being set up.
    #[error("the model's backends are being set up")]
    NoneReady,
    /// All backends that could take it have an open breaker, or are being set up.
    #[error("every backend of the model has failed too often recently")]
    AllBroken,
    /// At least one backend that could take it is only full, and may have room soon.
    #[error("every slot of the model's backends is taken")]
    AllFull,
}

/// The routes that can take the job if their backends are available: those that serve the endpoint, have enough context and
/// have not failed it.
pub(crate) fn fit<'a>(routes: &'a [Route], demand: &Demand<'_>) -> impl Iterator<Item = Choice<'a>> {
    let Demand { endpoint, context, tried, .. } = *demand;
    let serving =
        move || routes.iter().filter_map(move |route| Some(Choice { route, service: route.serves(endpoint)? }));
    // If no context is enough, the largest one counts as enough.
    let most = serving().map(|choice| window(choice.route)).max().unwrap_or_default();
    let enough = move |choice: &Choice<'_>| window(choice.route) >= most.min(context);
    serving().filter(enough).filter(move |choice| !tried.contains(&choice.route.backend))
}

/// Chooses among a model's routes. `standing` returns the state of a backend, or `None` while it is being set up.
pub(crate) fn choose<'a>(
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
        why = more_temporary(why, obstacle);
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

/// A route's context. An unknown one counts as unlimited.
fn window(route: &Route) -> u64 {
    route.context_window.unwrap_or(u64::MAX)
}

/// Of two reasons, the one that is more likely to pass.
fn more_temporary(a: Unrouted, b: Unrouted) -> Unrouted {
    let rank = |why| match why {
        Unrouted::NoneServes => 0,
        Unrouted::AllTried => 1,
        Unrouted::NoneReady => 2,
        Unrouted::AllBroken => 3,
        Unrouted::AllFull => 4,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests;
