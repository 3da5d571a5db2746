//! A circuit breaker: keeps jobs from a backend that fails them.
//!
//! Closed, it lets every job through. [`OPENS_AT`] faults in a row open it for a cool-down, and nothing gets through. Then it
//! is half open: one job may go, as a trial, whose fault opens it again for twice as long, up to a bound. From the moment
//! when it opens until it closes is one episode: the success of any job that was sent within the episode closes it, however
//! many trials were sent since. Driven by the router: [`Breaker::begin`] as a job is sent, [`Breaker::report`] as its verdict
//! is known.
//!
//! Faults in a row, not a rate: a success is proof that the backend works, a rate needs a window and a least number of
//! jobs, and a job that meets a fault goes to another backend anyway, so that a backend that fails every second job costs
//! tries and no jobs.
//!
//! A verdict counts only in the episode in which its job was sent, and a fault only for the latest trial. So the fifty jobs
//! that break with one server open the breaker once and do not lengthen the cool-down, and what is left of them decides no
//! trial.

use std::time::{Duration, Instant};

use super::debounce::GAP;

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
    /// It failed, and not because of the job.
    Fault,
    /// It refused what the caller asked for, the job may have made it fail, or the job was cancelled: proves nothing.
    Neutral,
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

/// Names the breaker, its episode and its trial in which a job was sent, for the job's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerToken {
    breaker: u64,
    episode: u64,
    trial: u64,
}

/// The breaker of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    number: u64,
    phase: Phase,
    /// Counts how often it opened and closed: a token of an older episode is stale.
    episode: u64,
    /// Counts the trials.
    trial: u64,
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
    /// Closed. A breaker that follows another takes no token of that one, where it has another number.
    pub fn new(number: u64) -> Self {
        Self { number, phase: Phase::Closed { faults: 0 }, episode: 0, trial: 0, cool_down: COOL_DOWN }
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
    pub fn begin(&mut self, now: Instant) -> Option<BreakerToken> {
        match self.state(now) {
            State::Closed => {}
            State::HalfOpen => {
                self.trial += 1;
                self.phase = Phase::Trial { until: now + TRIAL };
            }
            State::Open { .. } | State::Trying => return None,
        }
        Some(BreakerToken { breaker: self.number, episode: self.episode, trial: self.trial })
    }

    /// A job's verdict. One whose token is stale counts for nothing.
    pub fn report(&mut self, token: BreakerToken, verdict: Verdict, now: Instant) {
        if (token.breaker, token.episode) != (self.number, self.episode) {
            return;
        }
        let is_latest_trial = token.trial == self.trial;
        match (self.phase, verdict) {
            (Phase::Closed { .. }, Verdict::Success) => self.phase = Phase::Closed { faults: 0 },
            (Phase::Closed { faults }, Verdict::Fault) if faults + 1 < OPENS_AT => {
                self.phase = Phase::Closed { faults: faults + 1 };
            }
            (Phase::Closed { .. }, Verdict::Fault) => {
                self.episode += 1;
                self.open(now);
            }
            (Phase::Open { .. } | Phase::Trial { .. }, Verdict::Success) => {
                self.episode += 1;
                self.cool_down = COOL_DOWN;
                self.phase = Phase::Closed { faults: 0 };
            }
            (Phase::Trial { .. }, Verdict::Fault) if is_latest_trial => self.open(now),
            // Half open again, at once.
            (Phase::Trial { .. }, Verdict::Neutral) if is_latest_trial => self.phase = Phase::Open { until: now },
            (Phase::Closed { .. }, Verdict::Neutral) | (Phase::Open { .. } | Phase::Trial { .. }, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.phase = Phase::Open { until: now + self.cool_down };
        self.cool_down = self.cool_down.saturating_mul(2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests;
