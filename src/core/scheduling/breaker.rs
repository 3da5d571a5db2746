//! A circuit breaker: keeps jobs from a backend that fails them.
//!
//! Closed, it lets every job through. [`OPENS_AT`] faults in a row open it for a cool-down, and nothing gets through. Then it
//! is half open: one job may go, as a trial, whose success closes it and whose fault opens it again for twice as long, up to
//! a bound. Driven by the router: [`Breaker::begin`] as a job is sent, [`Breaker::report`] as its verdict is known.
//!
//! Faults in a row, not a rate: a success is proof that the backend works, a rate needs a window and a least number of
//! jobs, and a job that meets a fault goes to another backend anyway, so that a backend that fails every second job costs
//! tries and no jobs.
//!
//! A verdict counts only in the state in which its job was sent. So the fifty jobs that break with one server open the
//! breaker once and do not lengthen the cool-down, and what is left of them decides no trial.

use std::time::{Duration, Instant};

use super::debounce::GAP;
use crate::messages::jobs::Blame;

/// Faults in a row that open a breaker: one may be chance, and each costs a job one of its tries.
pub const OPENS_AT: u32 = 3;
/// The first cool-down. Half of it at most passes until the coordinator is told that nothing is on offer there, and in the
/// other half it may be told again: no withdrawal is left untold, or undone as it is told.
const COOL_DOWN: Duration = GAP.saturating_mul(2);
/// The longest cool-down, so that a backend that is back is used again within the usual time between two looks at it.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a trial keeps others away. One that has said nothing by then is no proof, and the next may go.
const TRIAL: Duration = Duration::from_secs(30);

/// What a job showed of its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It answered well.
    Success,
    /// The connection failed or broke, or it answered with 5xx.
    Fault,
    /// It refused what the caller asked, with 4xx, or the job was cancelled before it showed anything: proves nothing.
    Neutral,
}

impl Verdict {
    /// What an error that is somebody's fault says of the backend.
    pub fn of(blame: Blame) -> Self {
        match blame {
            Blame::Backend => Self::Fault,
            Blame::Caller | Blame::Unclear | Blame::Agent | Blame::Operator => Self::Neutral,
        }
    }
}

/// What a breaker does with the next job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Lets it through.
    Closed,
    /// Keeps it away until then.
    Open {
        /// The end of the cool-down.
        until: Instant,
    },
    /// Lets one through, as a trial.
    HalfOpen,
    /// Keeps it away while a trial is under way.
    Trying,
}

/// Names the breaker and the state of it in which a job was sent, for its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    breaker: u64,
    epoch: u64,
}

/// The breaker of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    number: u64,
    phase: Phase,
    /// Counts the changes of phase: a pass of an older one is stale.
    epoch: u64,
    /// The next cool-down.
    cool_down: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many faults in a row, fewer than [`OPENS_AT`].
    Closed { faults: u32 },
    /// Open until then, and half open from then on.
    Open { until: Instant },
    /// A trial is under way; another may start then.
    Trial { until: Instant },
}

impl Breaker {
    /// Closed. A breaker that follows another takes no pass of that one, where it has another number.
    pub fn new(number: u64) -> Self {
        Self { number, phase: Phase::Closed { faults: 0 }, epoch: 0, cool_down: COOL_DOWN }
    }

    /// What it does with a job now.
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open { until },
            Phase::Trial { until } if now < until => State::Trying,
            Phase::Open { .. } | Phase::Trial { .. } => State::HalfOpen,
        }
    }

    /// Whether a job may be sent now.
    pub fn admits(&self, now: Instant) -> bool {
        matches!(self.state(now), State::Closed | State::HalfOpen)
    }

    /// A job is sent: while half open it is the trial. `None`: it must not be sent.
    pub fn begin(&mut self, now: Instant) -> Option<Pass> {
        match self.state(now) {
            State::Closed => {}
            State::HalfOpen => self.enter(Phase::Trial { until: now + TRIAL }),
            State::Open { .. } | State::Trying => return None,
        }
        Some(self.pass())
    }

    fn pass(&self) -> Pass {
        Pass { breaker: self.number, epoch: self.epoch }
    }

    /// A job's verdict. One whose pass is stale counts for nothing.
    pub fn report(&mut self, pass: Pass, verdict: Verdict, now: Instant) {
        if pass != self.pass() {
            return;
        }
        match (self.phase, verdict) {
            (Phase::Closed { .. }, Verdict::Success) => self.phase = Phase::Closed { faults: 0 },
            (Phase::Closed { faults }, Verdict::Fault) if faults + 1 < OPENS_AT => {
                self.phase = Phase::Closed { faults: faults + 1 };
            }
            (Phase::Closed { .. } | Phase::Trial { .. }, Verdict::Fault) => self.open(now),
            (Phase::Trial { .. }, Verdict::Success) => {
                self.cool_down = COOL_DOWN;
                self.enter(Phase::Closed { faults: 0 });
            }
            // Half open again, at once.
            (Phase::Trial { .. }, Verdict::Neutral) => self.enter(Phase::Open { until: now }),
            // No pass is given while it is open.
            (Phase::Closed { .. }, Verdict::Neutral) | (Phase::Open { .. }, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.enter(Phase::Open { until: now + self.cool_down });
        self.cool_down = self.cool_down.saturating_mul(2).min(LONGEST);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests;
