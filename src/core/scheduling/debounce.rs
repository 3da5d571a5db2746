//! Limits how often the coordinator is sent changes: the first one at once, then at most one in [`GAP`].
//!
//! It does not know what changed. The caller sends the current state, so of several changes only the last state is sent,
//! and it is always sent: after [`Due::At`] the caller asks again at that time, if the state then differs from the one that
//! it sent last. One timer is enough, because all answers within a gap name the same time. The first state on a new
//! connection is sent at once, with a new debounce.

use std::time::{Duration, Instant};

/// The least time between two updates.
pub(crate) const GAP: Duration = Duration::from_secs(2);

/// When a change may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Now. It counts as sent.
    Now,
    /// Not before this time: ask again then.
    At(Instant),
}

/// Spaces the updates of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Debounce {
    /// The last update.
    last: Option<Instant>,
}

impl Debounce {
    /// Something changed, or an earlier change has not been sent yet.
    pub(crate) fn on_change(&mut self, now: Instant) -> Due {
        match self.last.map(|last| last + GAP) {
            Some(next) if now < next => Due::At(next),
            _ => {
                self.last = Some(now);
                Due::Now
            }
        }
    }
}

#[cfg(any(test, fuzzing))]
impl Debounce {
    pub(crate) fn add_to(&self, to: &mut crate::core::fingerprint::Fingerprint<'_>) {
        let Self { last } = self;
        to.add(last.map(|last| to.time(last)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_first_change_is_sent_at_once_and_the_next_two_seconds_later() {
        let now = epoch();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.on_change(now), Due::Now);
        for millis in [0, 1, 1999] {
            assert_eq!(debounce.on_change(now + Duration::from_millis(millis)), Due::At(now + GAP));
        }
        assert_eq!(debounce.on_change(now + GAP), Due::Now);
        assert_eq!(debounce.on_change(now + GAP), Due::At(now + 2 * GAP));
        assert_eq!(debounce.on_change(now + 9 * GAP), Due::Now);
    }

    proptest! {
        /// A driver as described above: a state that is a number, and one timer.
        #[test]
        fn updates_are_spaced_and_the_last_state_gets_out(waits in prop::collection::vec(0u64..3000, 1..100)) {
            let mut now = epoch();
            let (mut debounce, mut timer) = (Debounce::default(), None);
            let mut sent: Vec<(Instant, usize)> = Vec::new();
            for (state, wait) in waits.iter().enumerate() {
                let changed = now + Duration::from_millis(*wait);
                if let Some(at) = timer.take_if(|at| *at <= changed) {
                    prop_assert_eq!(debounce.on_change(at), Due::Now);
                    sent.push((at, state - 1));
                }
                now = changed;
                match debounce.on_change(now) {
                    Due::Now => sent.push((now, state)),
                    Due::At(at) => timer = Some(at),
                }
            }
            if let Some(at) = timer {
                prop_assert_eq!(debounce.on_change(at), Due::Now);
                sent.push((at, waits.len() - 1));
            }
            prop_assert_eq!(sent.last().map(|(_, state)| *state), Some(waits.len() - 1));
            prop_assert!(sent.is_sorted_by(|a, b| b.0 - a.0 >= GAP && b.1 > a.1));
        }
    }
}
