//! Checks of the router's invariants, which walk over all jobs. For tests.

use super::Router;
use super::job::Phase;
use crate::core::scheduling::ledger;

/// A broken invariant: a bug in this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// ROUTER-1.
    #[error("ROUTER-1: {0}")]
    Ledger(#[from] ledger::Broken),
    /// ROUTER-2.
    #[error("ROUTER-2: a job without a timer, a timer after the deadline, or a timer without a job")]
    Timer,
    /// ROUTER-3.
    #[error("ROUTER-3: a job's slot or queue does not match its phase")]
    Place,
    /// ROUTER-4.
    #[error("ROUTER-4: the reservations do not match the jobs in the ledger")]
    Budget,
}

impl<W> Router<W> {
    /// Checks every invariant.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        self.ledger.check()?;
        let (mut timers, mut reservations) = (0, 0);
        for entry in self.ledger.iter() {
            let (state, ticket) = (&entry.state, entry.ticket);
            let has_timer = state.timer <= state.deadline && self.timers.contains(&(state.timer, ticket));
            timers += usize::from(has_timer);
            reservations += usize::from(state.reservation.is_some());
            if !has_timer && state.phase != Phase::Ending {
                return Err(Broken::Timer);
            }
            let queued =
                |queue: &std::collections::VecDeque<_>| queue.iter().filter(|queued| **queued == ticket).count();
            let sound = match state.phase {
                Phase::Waiting => entry.backend.is_none() && queued(&self.wait_queue) == 1,
                Phase::Retrying(_) => entry.backend.is_none() && queued(&self.retry_queue) == 1,
                Phase::Running => entry.backend.is_some(),
                Phase::Ending => true,
            };
            if !sound {
                return Err(Broken::Place);
            }
        }
        if timers != self.timers.len() {
            return Err(Broken::Timer);
        }
        let sound = self.budget.as_ref().is_none_or(|budget| budget.reservations() == reservations);
        if sound { Ok(()) } else { Err(Broken::Budget) }
    }
}
