//! A circuit breaker: it keeps jobs away from a backend that fails them.
//!
//! While closed, it lets every job through. [`OPENS_AT`] faults in a row open it for a cool-down, in which it lets no job
//! through. After the cool-down it is half open: it lets one job through as a trial. A fault of the trial opens it again
//! for twice as long, up to a bound. The time from the first opening until it closes is one episode. The success of any job
//! that was sent within the episode closes it, however many trials were sent since. Used by the router: [`Breaker::begin`]
//! when a job is sent, [`Breaker::report`] when its outcome is known.
//!
//! It counts faults in a row, not a rate. A success proves that the backend works, while a rate needs a window and a
//! minimum number of jobs. A job that meets a fault is retried elsewhere, so a backend that fails every second job costs
//! retries and no jobs.
//!
//! An outcome counts only in the episode in which its job was sent, and a fault only for the latest trial. So if one server
//! fails with fifty jobs, they open the breaker once and do not lengthen the cool-down, and late outcomes do not decide a
//! trial.
//! trial.

use std::time::{Duration, Instant};

use super::debounce::GAP;

/// Faults in a row that open a breaker. A single fault can be chance, and each costs a job one of its retries.
pub(crate) const OPENS_AT: u32 = 3;
/// The first cool-down. The coordinator is sent at most one change of the offer in half of this time. So the withdrawal is
/// sent before the cool-down ends, and is not replaced by the next offer.
const COOL_DOWN: Duration = GAP.saturating_mul(2);
/// The longest cool-down, so that a backend that works again is used within the usual interval of probes.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a trial keeps other jobs away. If it has no outcome by then, the next one may be sent.
const TRIAL: Duration = Duration::from_secs(30);

/// What a job's outcome shows about its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// The backend served the job.
    Success,
    /// The backend failed, and not because of the job.
    Fault,
    /// The job was refused as the client's error, was cancelled, or may itself have caused the failure: shows nothing.
    Neutral,
}

/// What a breaker does with the next job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is let through.
    Closed,
    /// No job is let through before this time.
    Open {
        /// The end of the cool-down.
        until: Instant,
    },
    /// One job is let through, as a trial.
    HalfOpen,
    /// No job is let through while a trial is running.
    Trying,
}

/// Identifies the breaker, the episode and the trial in which a job was sent, for the job's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BreakerToken {
    breaker: u64,
    episode: u64,
    trial: u64,
}

/// The breaker of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breaker {
    number: u64,
    phase: Phase,
    /// Counts openings and closings: a token of an older episode is stale.
    episode: u64,
    /// Counts the trials.
    trial: u64,
    /// The next cool-down.
    cool_down: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The number of faults in a row, less than [`OPENS_AT`].
    Closed { faults: u32 },
    /// Open until then, half open from then on.
    Open { until: Instant },
    /// A trial is running; another one may start at this time.
    Trial { until: Instant },
}

impl Breaker {
    /// A closed breaker. `number` differs from that of the backend's earlier breakers, whose tokens it ignores.
    pub(crate) fn new(number: u64) -> Self {
        Self { number, phase: Phase::Closed { faults: 0 }, episode: 0, trial: 0, cool_down: COOL_DOWN }
    }

    /// What happens to a job now.
    pub(crate) fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open { until },
            Phase::Trial { until } if now < until => State::Trying,
            Phase::Open { .. } | Phase::Trial { .. } => State::HalfOpen,
        }
    }

    /// Whether a job may be sent now.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        matches!(self.state(now), State::Closed | State::HalfOpen)
    }

    /// A job is sent; in the half-open state it is the trial. `None`: it must not be sent.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<BreakerToken> {
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

    /// The outcome of a job. It is ignored if its token is stale.
    pub(crate) fn report(&mut self, token: BreakerToken, verdict: Verdict, now: Instant) {
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
            // Half open again at once.
            (Phase::Trial { .. }, Verdict::Neutral) if is_latest_trial => self.phase = Phase::Open { until: now },
            (Phase::Closed { .. }, Verdict::Neutral) | (Phase::Open { .. } | Phase::Trial { .. }, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.phase = Phase::Open { until: now + self.cool_down };
        self.cool_down = self.cool_down.saturating_mul(2).min(LONGEST);
    }
}

#[cfg(any(test, fuzzing))]
impl Breaker {
    pub(crate) fn add_to(&self, to: &mut crate::core::fingerprint::Fingerprint<'_>) {
        let Self { number, phase, episode, trial, cool_down } = self;
        to.add((number, episode, trial, cool_down));
        to.add(match phase {
            Phase::Closed { faults } => (Some(faults), None),
            Phase::Open { until } => (None, Some((false, to.time(*until)))),
            Phase::Trial { until } => (None, Some((true, to.time(*until)))),
        });
    }
}

#[cfg(test)]
mod tests;
