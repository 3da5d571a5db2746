//! Limits how many events of one kind are reported, so that a peer can't fill a log. Used by the agent's connection.
//!
//! The first `EACH` events of a period are reported one by one, the others are counted. The caller ends a period.

/// Events of a period that are reported one by one.
const EACH: u32 = 10;

/// The events of one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    reported: u32,
    counted: u64,
}

impl Repeats {
    /// Notes an event. Returns whether it is to be reported by itself.
    #[must_use]
    pub fn note(&mut self) -> bool {
        let is_reported = self.reported < EACH;
        if is_reported {
            self.reported += 1;
        } else {
            self.counted = self.counted.saturating_add(1);
        }
        is_reported
    }

    /// Begins the next period. Returns how many events of the last one were not reported.
    pub fn next_period(&mut self) -> u64 {
        std::mem::take(self).counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ten_of_a_period_are_reported_and_the_others_counted() {
        let mut repeats = Repeats::default();
        for (events, reported, counted) in [(0, 0, 0), (10, 10, 0), (11, 10, 1), (100_000, 10, 99_990), (3, 3, 0)] {
            assert_eq!((0..events).filter(|_| repeats.note()).count(), reported);
            assert_eq!(repeats.next_period(), counted);
        }
    }
}
