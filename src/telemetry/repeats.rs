//! Limits how many events of a kind are logged one by one, so that a peer or a client can't fill a log. Used by `Events` and
//! by the coordinator.
//!
//! The first events of a kind in a period are logged, the others are counted. The caller ends a period, and logs the counts.

use std::collections::BTreeMap;
use std::time::Duration;

/// The length of a period.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// The events of one period, by kind.
#[derive(Debug)]
pub(crate) struct Repeats<K> {
    /// Events of a kind that are logged one by one in a period.
    each: u32,
    kinds: BTreeMap<K, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    logged: u32,
    counted: u64,
}

impl<K: Ord> Repeats<K> {
    /// Logs so many events of a kind one by one.
    pub(crate) fn new(each: u32) -> Self {
        Self { each, kinds: BTreeMap::new() }
    }

    /// Notes an event. Returns whether it is to be logged by itself.
    #[must_use]
    pub(crate) fn note(&mut self, kind: K) -> bool {
        let state = self.kinds.entry(kind).or_default();
        let is_logged = state.logged < self.each;
        if is_logged {
            state.logged += 1;
        } else {
            state.counted = state.counted.saturating_add(1);
        }
        is_logged
    }

    /// Begins the next period. Returns how many events of each kind were not logged by themselves in the last one.
    pub(crate) fn next_period(&mut self) -> Vec<(K, u64)> {
        let counts = std::mem::take(&mut self.kinds).into_iter().map(|(kind, state)| (kind, state.counted));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_period_are_logged_and_the_others_counted() {
        let mut repeats = Repeats::new(10);
        for (events, logged, counted) in [(0, 0, 0), (10, 10, 0), (11, 10, 1), (100_000, 10, 99_990), (3, 3, 0)] {
            assert_eq!((0..events).filter(|_| repeats.note("a")).count(), logged);
            let counts = if counted > 0 { vec![("a", counted)] } else { vec![] };
            assert_eq!(repeats.next_period(), counts);
        }
    }

    #[test]
    fn each_kind_is_counted_by_itself() {
        let mut repeats = Repeats::new(1);
        assert_eq!(["a", "a", "b", "a", "b"].map(|kind| repeats.note(kind)), [true, false, true, false, false]);
        assert_eq!(repeats.next_period(), [("a", 2), ("b", 1)]);
    }
}
