//! How often a child may be restarted before the process gives up.
//!
//! It only counts. The supervisor records each restart here and follows the verdict.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most `max` restarts within any `window`.
#[derive(Clone, Debug)]
pub(crate) struct RestartBudget {
    max: usize,
    window: Duration,
    /// The latest restarts, oldest first, at most `max` of them.
    recent: VecDeque<Instant>,
}

/// What to do with a child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// Start it again.
    Restart,
    /// The budget is spent: restarts do not repair the fault.
    GiveUp,
}

impl RestartBudget {
    /// A budget of `max` restarts within `window`. With a `max` of 0 nothing is ever restarted. It remembers the
    /// latest `max` restarts.
    pub(crate) fn new(max: u32, window: Duration) -> Self {
        Self { max: usize::try_from(max).unwrap_or(usize::MAX), window, recent: VecDeque::new() }
    }

    /// Records that a restart is due at `now`. Restarts that are at least `window` old do not count.
    pub(crate) fn record(&mut self, now: Instant) -> Verdict {
        while self.recent.front().is_some_and(|then| now.saturating_duration_since(*then) >= self.window) {
            self.recent.pop_front();
        }
        let spent = self.recent.len() >= self.max;
        if spent {
            // The `max` latest restarts are enough to decide about the next one.
            self.recent.pop_front();
        }
        if self.max > 0 {
            self.recent.push_back(now);
        }
        if spent { Verdict::GiveUp } else { Verdict::Restart }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_restart_after_the_last_allowed_one_gives_up() {
        let (start, mut budget) = (epoch(), RestartBudget::new(3, WINDOW));
        let verdicts = [0, 1, 2, 3].map(|s| budget.record(start + Duration::from_secs(s)));
        assert_eq!(verdicts, [Verdict::Restart, Verdict::Restart, Verdict::Restart, Verdict::GiveUp]);
    }

    #[test]
    fn a_restart_leaves_the_window_when_it_is_as_old_as_the_window() {
        let start = epoch();
        for (age, verdict) in [(WINDOW - Duration::from_nanos(1), Verdict::GiveUp), (WINDOW, Verdict::Restart)] {
            let mut budget = RestartBudget::new(1, WINDOW);
            assert_eq!(budget.record(start), Verdict::Restart);
            assert_eq!(budget.record(start + age), verdict, "{age:?}");
        }
    }

    #[test]
    fn a_budget_of_none_never_restarts() {
        let (start, mut budget) = (epoch(), RestartBudget::new(0, WINDOW));
        assert_eq!(budget.record(start), Verdict::GiveUp);
        assert_eq!(budget.record(start + WINDOW * 2), Verdict::GiveUp);
    }

    #[test]
    fn a_restart_a_minute_for_ever_is_within_a_budget_of_one() {
        let (start, mut budget) = (epoch(), RestartBudget::new(1, WINDOW));
        assert!((0..10_000).all(|minute| budget.record(start + WINDOW * minute) == Verdict::Restart));
    }

    proptest! {
        #[test]
        fn it_gives_up_exactly_when_the_window_holds_too_many(
            max in 0u32..6, gaps in prop::collection::vec(0u64..40_000, 0..200),
        ) {
            let (mut now, mut budget, mut all) = (epoch(), RestartBudget::new(max, WINDOW), Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                all.push(now);
                let within = all.iter().filter(|then| now - **then < WINDOW).count();
                let verdict = if within > max as usize { Verdict::GiveUp } else { Verdict::Restart };
                prop_assert_eq!(budget.record(now), verdict);
                prop_assert!(budget.recent.len() <= max as usize);
            }
        }
    }
}
