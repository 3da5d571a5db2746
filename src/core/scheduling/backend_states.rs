//! The current state of every backend: its slots and its circuit breaker. The catalog holds what a backend offers; this
//! module decides whether it can take a job now. The ledger counts our jobs on it. Used by the router.

use std::collections::HashMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::breaker::{Breaker, BreakerToken, State, Verdict};
use super::capacity::Capacity;
use super::catalog::Catalog;
use super::selection::Standing;
use crate::messages::ids::BackendId;

/// The states of the backends of the current catalog.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackendStates {
    members: HashMap<BackendId, Member>,
    /// Breakers made so far, which numbers them.
    breakers: u64,
}

#[derive(Clone, Debug)]
struct Member {
    capacity: Capacity,
    breaker: Breaker,
}

/// The state of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackendView {
    /// The most concurrent jobs of ours.
    pub limit: u32,
    /// The concurrent jobs of ours that it takes now.
    pub usable: u32,
    /// Slots that other clients use.
    pub others: u32,
    /// Slots that cancelled jobs still hold.
    pub lingering: u32,
    /// Its circuit breaker.
    pub breaker: BreakerView,
}

/// A circuit breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BreakerView {
    /// Jobs are let through.
    Closed,
    /// No job is let through.
    Open {
        /// The time until the trial.
        for_ms: u64,
    },
    /// One job is let through, as a trial.
    HalfOpen,
    /// A trial is under way.
    Trying,
}

impl BackendStates {
    /// Applies a new catalog. The state of a backend that is not in it is dropped, with its breaker: a backend that returns
    /// has been probed.
    pub(crate) fn update(&mut self, catalog: &Catalog) {
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

    /// The state of a backend with `ours` jobs of ours, for the choice of a route. `None`: it is not in the catalog.
    pub(crate) fn standing(&self, backend: &BackendId, ours: usize, now: Instant) -> Option<Standing> {
        let member = self.members.get(backend)?;
        let jobs = u32::try_from(ours).unwrap_or(u32::MAX);
        Some(Standing {
            admits: member.breaker.admits(now),
            free: member.capacity.free(jobs, now),
            load: member.capacity.load(jobs, now),
            jobs,
        })
    }

    /// The concurrent jobs of ours that a backend takes now: 0 while its breaker is open, 1 while a trial is due or
    /// running.
    pub(crate) fn usable(&self, backend: &BackendId, now: Instant) -> u32 {
        self.members.get(backend).map_or(0, |member| match member.breaker.state(now) {
            State::Closed => member.capacity.usable(now),
            State::HalfOpen | State::Trying => member.capacity.usable(now).min(1),
            State::Open { .. } => 0,
        })
    }

    /// Whether a cancelled job still uses a slot there, which will be free soon.
    pub(crate) fn lingers(&self, backend: &BackendId, now: Instant) -> bool {
        self.members.get(backend).is_some_and(|member| member.capacity.lingering(now) > 0)
    }

    /// A job is sent there. `None`: the breaker does not let it through.
    pub(crate) fn begin(&mut self, backend: &BackendId, now: Instant) -> Option<BreakerToken> {
        self.members.get_mut(backend)?.breaker.begin(now)
    }

    /// The outcome of the job that was sent with `token`.
    pub(crate) fn report(&mut self, backend: &BackendId, token: BreakerToken, verdict: Verdict, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.breaker.report(token, verdict, now);
        }
    }

    /// A job there has ended, or was moved to another backend.
    pub(crate) fn on_end(&mut self, backend: &BackendId, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.capacity.on_end(now);
        }
    }

    /// A job there was cancelled.
    pub(crate) fn on_cancel(&mut self, backend: &BackendId, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.capacity.on_cancel(now);
        }
    }

    /// A server reports its active requests, of all clients. It was asked at `asked`. Up to `ours` of the requests can be
    /// ours.
    pub(crate) fn on_load(&mut self, backend: &BackendId, active: u32, ours: usize, asked: Instant, now: Instant) {
        if let Some(member) = self.members.get_mut(backend) {
            member.capacity.on_ask(asked);
            member.capacity.on_report(active, u32::try_from(ours).unwrap_or(u32::MAX), now);
        }
    }

    /// The backends whose load is to be requested now. They count as asked.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<BackendId> {
        let due =
            self.members.iter_mut().filter(|(_, member)| member.capacity.next_poll(now).is_some_and(|at| at <= now));
        due.map(|(id, member)| {
            member.capacity.on_ask(now);
            id.clone()
        })
        .collect()
    }

    /// The state of each backend, for the status page and tests.
    pub(crate) fn view(&self, now: Instant) -> impl Iterator<Item = (&BackendId, BackendView)> {
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

    /// The backends of the current catalog.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn ids(&self) -> impl Iterator<Item = &BackendId> {
        self.members.keys()
    }

    /// When the next load is to be requested.
    pub(crate) fn next_poll(&self, now: Instant) -> Option<Instant> {
        self.members.values().filter_map(|member| member.capacity.next_poll(now)).min()
    }

    /// When a cool-down or the wait for a trial ends, so that a backend can be offered again.
    pub(crate) fn next_trial(&self, now: Instant) -> Option<Instant> {
        let until = self.members.values().filter_map(|member| match member.breaker.state(now) {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen | State::Trying => None,
        });
        until.min()
    }
}

#[cfg(any(test, fuzzing))]
impl BackendStates {
    pub(crate) fn add_to(&self, to: &mut crate::core::fingerprint::Fingerprint<'_>) {
        // How many breakers there were only numbers the next one, which no old token names.
        let Self { members, breakers: _ } = self;
        let mut members: Vec<(&BackendId, &Member)> = members.iter().collect();
        members.sort_unstable_by_key(|(id, _)| *id);
        for (id, Member { capacity, breaker }) in members {
            to.add(id);
            capacity.add_to(to);
            breaker.add_to(to);
        }
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
                active_requests: None,
                cloud_models: 0,
            };
            (BackendId::from(*id), Seen { report, policy: BackendPolicy { local: true, ..BackendPolicy::default() } })
        };
        let default = Price { input_per_1m: 1, output_per_1m: 1 };
        let terms = Terms { prices: PriceList { default, by_model: BTreeMap::new() }, max_concurrent: 8 };
        Catalog::build(&backends.iter().map(seen).collect(), &terms)
    }

    #[test]
    fn an_open_breaker_takes_no_job_until_its_trial_is_due() {
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
    fn only_a_backend_that_reports_its_load_is_polled_for_it() {
        let (mut states, now, id) = (BackendStates::default(), epoch(), BackendId::from("a"));
        states.update(&catalog(&["a", "b"]));
        assert_eq!(states.next_poll(now), None);
        states.on_load(&id, 1, 0, now, now);
        assert_eq!(states.usable(&id, now), 1, "another job is served there");
        let at = states.next_poll(now).unwrap();
        assert_eq!((states.due(now), states.due(at)), (vec![], vec![id.clone()]));
        assert!(states.next_poll(at).unwrap() > at);
        states.on_cancel(&id, at);
        assert!(states.lingers(&id, at) && states.next_poll(at).unwrap() < at + Duration::from_secs(2));
    }

    #[test]
    fn outcomes_of_jobs_from_before_a_backend_left_are_ignored_after_its_return() {
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
    fn the_state_of_a_backend_that_left_the_catalog_is_dropped() {
        let (mut states, now) = (BackendStates::default(), epoch());
        states.update(&catalog(&["a"]));
        states.update(&catalog(&["b"]));
        assert!(states.standing(&"a".into(), 0, now).is_none() && states.standing(&"b".into(), 0, now).is_some());
    }
}
