//! What the roster of a coordinator with one agent decides from, for the model check.

use super::{Agent, AgentInfo, Offer, Roster};
use crate::core::fingerprint::Fingerprint;
use crate::messages::ids::{Generation, JobId};

impl Roster<Generation> {
    /// Adds what is decided from. `None`: there is more than one agent, for which more is decided.
    pub(crate) fn add_to(&self, to: &mut Fingerprint<'_>) {
        // Numbers of sessions and assignments are only compared between agents.
        let Self { agents, away, sessions: _, assignments: _, longest_job: _ } = self;
        assert!(agents.len() + away.len() <= 1, "a model of one agent");
        to.add((agents.len(), away.len()));
        for agent in agents.values().chain(away.values()) {
            // The figures of completed jobs and of the last assignment are only compared between agents; heartbeats are shown.
            let Agent {
                info,
                offers,
                limit,
                max_message,
                most_completed: _,
                has_offered,
                is_draining,
                jobs,
                heartbeat: _,
                last_assignment: _,
            } = agent;
            let AgentInfo { key: _, provider: _, version: _, extensions, since: _, link } = info;
            to.add((to.connection(*link), extensions.iter().count(), limit, max_message, has_offered, is_draining));
            for (model, Offer { max_concurrent, context_window: _, endpoints, full_at }) in offers {
                to.add(full_at);
                to.add((model, max_concurrent, endpoints.iter().count()));
            }
            jobs.keys().for_each(|job| to.add_of(*job, "has a slot on the roster"));
        }
    }

    /// The jobs that have slots.
    pub(crate) fn booked(&self) -> Vec<JobId> {
        let mut jobs: Vec<JobId> =
            self.agents.values().chain(self.away.values()).flat_map(|agent| agent.jobs.keys().copied()).collect();
        jobs.sort_unstable();
        jobs
    }
}
