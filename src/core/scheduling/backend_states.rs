//! What is known of every backend at the moment: its slots and its breaker. The catalog says what a backend offers, this
//! whether it can take a job now. How many jobs of ours are on it the ledger says. Driven by the router.

use std::collections::HashMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::breaker::{Breaker, BreakerToken, State, Verdict};
use super::capacity::Capacity;
use super::catalog::Catalog;
use super::selection::Standing;
use crate::messages::ids::BackendId;

/// The backends of the current catalog.
#[derive(Debug, Default)]
pub struct BackendStates {
    members: HashMap<BackendId, Member>,
    /// Breakers made so far: each has a number of its own.
    breakers: u64,
}

#[derive(Debug)]
struct Member {
    capacity: Capacity,
    breaker: Breaker,
}

/// What is known of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendView {
    /// Jobs of ours at once, at most.
    pub limit: u32,
    /// Jobs of ours that it takes at once now.
    pub usable: u32,
    /// Slots that others hold.
    pub others: u32,
    /// Slots that cancelled jobs still hold.
    pub lingering: u32,
    /// Its circuit breaker.
    pub breaker: BreakerView,
}

/// A circuit breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerView {
    /// Jobs pass.
    Closed,
    /// No job passes.
    Open {
        /// For so long.
        for_ms: u64,
    },
    /// One job may pass, as a trial.
    HalfOpen,
    /// A trial is under way.
    Trying,
}

impl BackendStates {
    /// Takes in what a new catalog says. A backend that is not in it is forgotten, its breaker too: one that comes back
    /// was looked at before.
    pub fn update(&mut self, catalog: &Catalog) {
        let backends = catalog.backends();
        self.members.retain(|id, _| backends.contains_key(id));
        for (id, route) in backends {
            match self.members.get_mut(id) {
                Some(member) => member.capacity.resize(route.limit, route.slots),
                None => {
                    let capacity = Capacity::new(route.limit, route.slots);
                    self.breakers += 1;
                    self.members.insert(id.clone(), Member { capacity, breaker: Breaker::new(self.breakers) });
                }
            }
        }
    }

    /// How a backend with `ours` jobs of ours stands. `None`: it is not in the catalog.
    pub fn standing(&self, backend: &BackendId, ours: usize, now: Instant) -> Option<Standing> {
        let member = self.members.get(backend)?;
        let jobs = u32::try_from(ours).unwrap_or(u32::MAX);
        Some(Standing {
            admits: member.breaker.admits(now),
            free: member.capacity.free(jobs, now),
            load: member.capacity.load(jobs, now),
            jobs,
        })
    }

    /// Jobs of ours that a backend takes at once now: none while its breaker keeps them away, one as its trial is due or
    /// under way, which is that one.
    pub fn usable(&self, backend: &BackendId, now: Instant) -> u32 {
        self.members.get(backend).map_or(0, |member| match member.breaker.state(now) {
            State::Closed => member.capacity.usable(now),
            State::HalfOpen | State::Trying => member.capacity.usable(now).min(1),
            State::Open { .. } => 0,
        })
    }

    /// Whether a cancelled job still holds a slot there, which will be free soon.
    pub fn lingers(&self, backend: &BackendId, now: Instant) -> bool {
        self.members.get(backend).is_some_and(|member| member.capacity.lingering(now) > 0)
    }

    /// A job is sent there. `None`: its breaker lets none through.
    pub fn begin(&mut self, backend: &BackendId, now: Instant) -> Option<BreakerToken> {
        self.members.get_mut(backend)?.breaker.begin(now)
    }

    /// What the job that was sent with `token` showed of the backend.
    pub fn report(&mut self, backend: &BackendId, token: BreakerToken, verdict: Verdict, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.breaker.report(token, verdict, now);
        }
    }

    /// A job there has ended by itself, or went elsewhere.
    pub fn on_end(&mut self, backend: &BackendId, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.capacity.on_end(now);
        }
    }

    /// A job there was cancelled.
    pub fn on_cancel(&mut self, backend: &BackendId, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.capacity.on_cancel(now);
        }
    }

    /// The server, `asked` then, says how many requests it works, whoever's they are; `ours` of them may be ours.
    pub fn on_load(&mut self, backend: &BackendId, busy: u32, ours: usize, asked: Instant, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.capacity.on_ask(asked);
            member.capacity.on_report(busy, u32::try_from(ours).unwrap_or(u32::MAX), now);
        }
    }

    /// The backends whose load is to be asked for now, which counts as asked.
    pub fn due(&mut self, now: Instant) -> Vec<BackendId> {
        let due =
            self.members.iter_mut().filter(|(_, member)| member.capacity.next_poll(now).is_some_and(|at| at <= now));
        due.map(|(id, member)| {
            member.capacity.on_ask(now);
            id.clone()
        })
        .collect()
    }

    /// What is known of each backend, for people and tests.
    pub fn view(&self, now: Instant) -> impl Iterator<Item = (&BackendId, BackendView)> {
        self.members.iter().map(move |(id, member)| {
            let view = BackendView {
                limit: member.capacity.limit(),
                usable: self.usable(id, now),
                others: member.capacity.foreign(now),
                lingering: member.capacity.lingering(now),
                breaker: match member.breaker.state(now) {
                    State::Closed => BreakerView::Closed,
                    State::Open { until } => {
                        BreakerView::Open { for_ms: until.saturating_duration_since(now).as_millis() as u64 }
                    }
                    State::HalfOpen => BreakerView::HalfOpen,
                    State::Trying => BreakerView::Trying,
                },
            };
            (id, view)
        })
    }

    /// When something is to be done that no event will bring: a load to be asked for.
    pub fn next_poll(&self, now: Instant) -> Option<Instant> {
        self.members.values().filter_map(|member| member.capacity.next_poll(now)).min()
    }

    /// When a breaker's cool-down or trial ends, so that the backend can be offered again.
    pub fn next_trial(&self, now: Instant) -> Option<Instant> {
        let until = self.members.values().filter_map(|member| match member.breaker.state(now) {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen | State::Trying => None,
        });
        until.min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::core::scheduling::catalog::{BackendPolicy, Seen, Terms};
    use crate::messages::backend::BackendKind;
    use crate::messages::discovery::{BackendReport, ModelReport};
    use crate::messages::endpoint::Endpoints;
    use crate::messages::prices::{Price, PriceList};

    #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn catalog(backends: &[&str]) -> Catalog {
        let seen = |id: &&str| {
            let model = ModelReport { id: "m".into(), context_window: None, endpoints: Endpoints::CHAT, price: None };
            let report = BackendReport {
                kind: BackendKind::OpenAi,
                models: vec![model],
                slots: Some(2),
                busy: None,
                cloud_models: 0,
            };
            (BackendId::from(*id), Seen { report, policy: BackendPolicy { local: true, ..BackendPolicy::default() } })
        };
        let default = Price { input_per_1m: 1, output_per_1m: 1 };
        let terms = Terms { prices: PriceList { default, by_model: BTreeMap::new() }, max_concurrent: 8 };
        Catalog::build(&backends.iter().map(seen).collect(), &terms)
    }

    #[test]
    fn an_open_breaker_takes_nothing_until_its_trial_is_due() {
        let (mut states, now, id) = (BackendStates::default(), epoch(), BackendId::from("a"));
        states.update(&catalog(&["a", "b"]));
        assert_eq!(states.usable(&id, now), 2);
        for _ in 0..crate::core::scheduling::breaker::OPENS_AT {
            let token = states.begin(&id, now).unwrap();
            states.report(&id, token, Verdict::Fault, now);
        }
        let standing = states.standing(&id, 0, now).unwrap();
        assert_eq!((standing.admits, states.usable(&id, now), states.usable(&"b".into(), now)), (false, 0, 2));
        let trial = states.next_trial(now).unwrap();
        assert_eq!((states.usable(&id, trial), states.next_trial(trial)), (1, None));
        let token = states.begin(&id, trial).unwrap();
        assert_eq!(states.usable(&id, trial), 1, "the trial itself runs there");
        states.report(&id, token, Verdict::Fault, trial);
        assert_eq!(states.usable(&id, trial), 0);
        assert!(states.next_trial(trial).unwrap() > trial);
    }

    #[test]
    fn a_backend_that_tells_its_load_is_asked_for_it_and_one_that_does_not_is_not() {
        let (mut states, now, id) = (BackendStates::default(), epoch(), BackendId::from("a"));
        states.update(&catalog(&["a", "b"]));
        assert_eq!(states.next_poll(now), None);
        states.on_load(&id, 1, 0, now, now);
        assert_eq!(states.usable(&id, now), 1, "somebody else is served there");
        let at = states.next_poll(now).unwrap();
        assert_eq!((states.due(now), states.due(at)), (vec![], vec![id.clone()]));
        assert!(states.next_poll(at).unwrap() > at);
        states.on_cancel(&id, at);
        assert!(states.lingers(&id, at) && states.next_poll(at).unwrap() < at + Duration::from_secs(2));
    }

    #[test]
    fn jobs_of_before_a_backend_left_say_nothing_of_it_once_it_is_back() {
        let (mut states, now, id) = (BackendStates::default(), epoch(), BackendId::from("a"));
        states.update(&catalog(&["a"]));
        let old = states.begin(&id, now).unwrap();
        states.update(&catalog(&["b"]));
        states.update(&catalog(&["a"]));
        for _ in 0..crate::core::scheduling::breaker::OPENS_AT {
            states.report(&id, old, Verdict::Fault, now);
        }
        assert_eq!(states.usable(&id, now), 2);
        assert_ne!(states.begin(&id, now), Some(old));
    }

    #[test]
    fn what_left_the_catalog_is_forgotten() {
        let (mut states, now) = (BackendStates::default(), epoch());
        states.update(&catalog(&["a"]));
        states.update(&catalog(&["b"]));
        assert!(states.standing(&"a".into(), 0, now).is_none() && states.standing(&"b".into(), 0, now).is_some());
    }
}
