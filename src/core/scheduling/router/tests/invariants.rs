//! Invariants of the router that hold in every sequence of inputs.

use std::collections::BTreeMap;

use super::super::*;
use super::server::Known;
use super::world::{AGENT, BUDGET, World, ms};
use crate::core::scheduling::catalog::Model;
use crate::core::scheduling::selection::{Demand, Standing, choose};
use crate::messages::endpoint::Endpoints;
use crate::messages::wire::Capabilities;

impl World {
    /// The offer is correct for an agent without jobs: every endpoint has a route, and as many jobs of the full context as
    /// offered have a slot at the same time, for each endpoint that every route serves.
    pub(super) fn take_offer(&mut self, generation: Generation, capabilities: &Capabilities) {
        assert!(self.connected && generation == self.generation, "EFFECT-REFERS: to a connection that is gone");
        // The first offer of a connection and its first change are sent at once.
        let last = self.announced.last().filter(|_| self.announced.len() > 1);
        assert!(last.is_none_or(|last| self.now - *last >= ms(2000)), "offers come too fast");
        self.announced.push(self.now);
        for offer in &capabilities.models {
            let Some(model) = self.router.catalog.model(&offer.model_id) else { panic!("an offer of no model") };
            let endpoints = offer.endpoints.unwrap_or(Endpoints::CHAT);
            self.can_be_served(model, offer.max_concurrent, offer.context_window, endpoints);
        }
    }

    fn can_be_served(&self, model: &Model, max_concurrent: u32, context: Option<u64>, endpoints: Endpoints) {
        assert!((1..=AGENT).contains(&max_concurrent) && !endpoints.is_empty());
        for endpoint in endpoints.iter() {
            let everywhere = model.routes.iter().all(|route| route.serves(endpoint).is_some());
            let mut jobs: BTreeMap<&BackendId, u32> = BTreeMap::new();
            for _ in 0..if everywhere { max_concurrent } else { 1 } {
                let demand = Demand { endpoint, context: context.unwrap_or(0), sticky: None, tried: &[] };
                let choice = choose(&model.routes, &demand, |id| {
                    let jobs = jobs.get(id).copied().unwrap_or(0);
                    let limit = model.routes.iter().find(|route| route.backend == *id)?.limit;
                    let limit = limit.min(self.router.backends.usable(id, self.now));
                    Some(Standing { admits: limit > 0, free: limit - jobs.min(limit), load: jobs, jobs })
                });
                let why = |why| panic!("an offer of {max_concurrent} at {endpoint} that can't be kept: {why}");
                *jobs.entry(&choice.unwrap_or_else(why).route.backend).or_default() += 1;
            }
        }
    }

    /// Holds for a backend that was just given a job.
    pub(super) fn check_room(&self, id: &BackendId) {
        let server = &self.servers[id];
        let limit = server.policy.max_concurrent.unwrap_or(server.slots);
        let ours = self.router.ledger.on_backend(id);
        assert!(ours <= limit.min(AGENT) as usize, "BACKEND-LIMIT: more jobs than the backend may have");
        // The load that is not ours, and the slots of cancelled jobs, expire if the server has not reported them for long.
        let recent = server.reported.is_some_and(|at| self.now - at < ms(35_000));
        let is_ours = server.foreign == 0 && server.held.iter().all(|until| *until <= self.now);
        if server.known == Known::Exactly && (recent || is_ours) {
            assert!(self.busy(id) <= server.slots.max(limit), "BACKEND-LIMIT: more work than there was room for");
        }
    }

    /// Holds at any time.
    pub(super) fn check(&self) {
        assert_eq!(self.router.check(), Ok(()));
        for entry in self.router.ledger.iter().filter(|entry| entry.state.phase != Phase::Ending) {
            assert!(entry.state.deadline >= self.now, "DEADLINE: a job waits past its deadline");
        }
        if let Some(budget) = &self.router.budget {
            let most = u128::from(BUDGET);
            assert!(budget.reserved() <= most, "BUDGET: more is reserved than there is");
        }
        assert!(self.submissions.open().all(|job| !job.returned));
        let open = self.submissions.open().count();
        assert_eq!(open, self.router.ledger.in_flight(), "ONE-TERMINAL: the ledger is not what is open");
    }
}
