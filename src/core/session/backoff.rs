//! The wait before the next connection.
//!
//! [`Backoff`] is the growing wait. [`Reconnect`] survives connections: it computes the wait from the end of the last
//! connection. Neither sleeps nor logs; the supervisor does.

use std::time::Duration;

use rand::{Rng, RngExt};

const START: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);

/// Each wait is multiplied by a random factor of `JITTER / JITTER_UNIT`, uniform in [0.8, 1.2).
const JITTER: std::ops::Range<u32> = 800_000..1_200_000;
const JITTER_UNIT: u32 = 1_000_000;

/// The number of failures in a row that is logged as an error.
const TELLING_FAILURE: u32 = 10;

/// A wait that doubles with each use, up to a cap, with a random factor so that the agents of a fleet do not reconnect at
/// the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    start: Duration,
    cap: Duration,
    /// The next wait before the random factor: `start <= base <= cap`.
    base: Duration,
}

impl Backoff {
    /// Returns to the first wait.
    pub(crate) fn reset(&mut self) {
        self.base = self.start;
    }

    /// The current wait, multiplied by a factor in [0.8, 1.2), but at least the wait that the peer asked for, limited by the cap
    /// and multiplied by a factor in [1, 1.2). The next wait is twice as long, up to the cap.
    pub(crate) fn next_wait(&mut self, asked: Duration, rng: &mut impl Rng) -> Duration {
        let jitter = rng.random_range(JITTER);
        let wait = self.base.saturating_mul(jitter) / JITTER_UNIT;
        let upwards = JITTER_UNIT + (jitter - JITTER.start) / 2;
        let asked = asked.min(self.cap).saturating_mul(upwards) / JITTER_UNIT;
        self.base = self.base.saturating_mul(2).min(self.cap);
        wait.max(asked)
    }
}

impl Default for Backoff {
    /// One second, doubling up to a minute.
    fn default() -> Self {
        Self { start: START, cap: CAP, base: START }
    }
}

/// How the end of a connection counts for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndClass {
    /// It was authenticated, however it ended.
    Planned,
    /// It ended before `auth_ok`.
    Failure,
    /// It ended before `auth_ok`, and the peer requests this wait.
    FailureWithWait(Duration),
}

/// What to do before the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// The wait.
    pub wait: Duration,
    /// Failures in a row, this one included; 0 after a planned end.
    pub failures: u32,
    /// Whether this is the tenth failure in a row: true only once until a planned end, so that it is logged once.
    pub tenth: bool,
}

/// The backoff and the failures in a row, which survive connections. There is no limit after which it gives up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconnect {
    backoff: Backoff,
    failures: u32,
}

impl Reconnect {
    /// Records how a connection ended. A planned end resets the wait to its start, and that wait is used first: a failure
    /// right after it waits twice as long.
    pub(crate) fn after(&mut self, end: EndClass, rng: &mut impl Rng) -> Retry {
        let asked = match end {
            EndClass::FailureWithWait(asked) => asked,
            EndClass::Planned | EndClass::Failure => Duration::ZERO,
        };
        match end {
            EndClass::Planned => {
                self.backoff.reset();
                self.failures = 0;
            }
            EndClass::Failure | EndClass::FailureWithWait(_) => self.failures = self.failures.saturating_add(1),
        }
        let wait = self.backoff.next_wait(asked, rng);
        Retry { wait, failures: self.failures, tenth: self.failures == TELLING_FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// `wait` as a part of `base`, in parts per million, rounded to the next part.
    fn ppm(wait: Duration, base: Duration) -> u128 {
        (wait.as_nanos() * 1_000_000).div_ceil(base.as_nanos())
    }

    #[test]
    fn after_a_planned_end_the_bases_are_one_two_and_four_seconds() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut reconnect = Reconnect::default();
        for _ in 0..20 {
            reconnect.after(EndClass::Failure, &mut rng);
        }
        for (end, base, failures) in
            [(EndClass::Planned, 1, 0), (EndClass::Failure, 2, 1), (EndClass::Failure, 4, 2), (EndClass::Planned, 1, 0)]
        {
            let retry = reconnect.after(end, &mut rng);
            assert!((800_000..1_200_000).contains(&ppm(retry.wait, Duration::from_secs(base))), "{retry:?}");
            assert_eq!((retry.failures, retry.tenth), (failures, false));
        }
    }

    #[test]
    fn a_wait_that_the_peer_requests_is_respected_up_to_the_cap_and_the_backoff_grows() {
        let mut rng = StdRng::seed_from_u64(7);
        for (asked, least) in [(0, 0), (1, 1), (7, 7), (60, 60), (61, 60), (u64::MAX, 60)] {
            let asked = EndClass::FailureWithWait(Duration::from_secs(asked));
            let mut reconnect = Reconnect::default();
            let mut base = START;
            for failures in 1..20 {
                let retry = reconnect.after(asked, &mut rng);
                let least = Duration::from_secs(least);
                assert!(retry.wait >= least.max(base * 4 / 5), "{retry:?}");
                assert!(retry.wait < least.max(base) * 6 / 5, "{retry:?}");
                assert_eq!((retry.failures, retry.tenth), (failures, failures == 10));
                base = (base * 2).min(CAP);
            }
            let planned = reconnect.after(EndClass::Planned, &mut rng);
            assert!(planned.wait < START * 6 / 5, "the requested wait applies once");
        }
    }

    #[test]
    fn the_tenth_failure_in_a_row_is_reported_once() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut reconnect = Reconnect::default();
        for _ in 0..2 {
            let tenths: Vec<u32> = (0..1000)
                .map(|_| reconnect.after(EndClass::Failure, &mut rng))
                .filter(|retry| retry.tenth)
                .map(|retry| retry.failures)
                .collect();
            assert_eq!(tenths, [10]);
            assert!(!reconnect.after(EndClass::Planned, &mut rng).tenth);
        }
    }

    #[test]
    fn the_factor_uses_its_whole_range() {
        let mut rng = StdRng::seed_from_u64(7);
        let base = Duration::from_secs(60);
        let mut backoff = Backoff { start: base, cap: base, base };
        let factors: Vec<u128> = (0..10_000).map(|_| ppm(backoff.next_wait(Duration::ZERO, &mut rng), base)).collect();
        assert!(*factors.iter().min().unwrap() < 801_000);
        assert!(*factors.iter().max().unwrap() > 1_199_000);
        let mean = factors.iter().sum::<u128>() / 10_000;
        assert!((990_000..1_010_000).contains(&mean), "{mean}");
    }

    proptest! {
        #[test]
        fn every_wait_is_its_doubled_base_times_the_factor(
            seed: u64, start in 1_000u64..10_000_000_000, grow in 1u32..100_000, resets: [bool; 40],
        ) {
            let start = Duration::from_nanos(start);
            let cap = start * grow;
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff { start, cap, base: start };
            let mut base = start;
            for reset in resets {
                if reset {
                    backoff.reset();
                    base = start;
                }
                let wait = backoff.next_wait(Duration::ZERO, &mut rng);
                // A wait is rounded to a whole nanosecond, at most a thousandth of the shortest base.
                prop_assert!(wait + Duration::from_nanos(1) >= base * 4 / 5, "{wait:?} of {base:?}");
                prop_assert!(wait < base * 6 / 5, "{wait:?} of {base:?}");
                prop_assert!(wait < cap * 6 / 5);
                base = (base * 2).min(cap);
            }
        }

        #[test]
        fn any_order_of_ends_keeps_the_count_and_the_wait(seed: u64, ends: Vec<bool>) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut reconnect = Reconnect::default();
            let (mut base, mut failures) = (START, 0);
            for failed in ends {
                let end = if failed { EndClass::Failure } else { EndClass::Planned };
                (base, failures) = if failed { (base, failures + 1) } else { (START, 0) };
                let retry = reconnect.after(end, &mut rng);
                prop_assert_eq!(retry.failures, failures);
                prop_assert_eq!(retry.tenth, failures == 10);
                prop_assert!(retry.wait >= base * 4 / 5 && retry.wait < base * 6 / 5);
                base = (base * 2).min(CAP);
            }
        }
    }
}
