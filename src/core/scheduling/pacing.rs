//! When a backend may be probed or polled for its load: at most once a second, however many events request it. If llama.cpp
//! gets requests for its slots more often, it does not notice that a client has disconnected.
//!
//! It knows neither the server nor a timer. Discovery uses one for each source.

use std::time::{Duration, Instant};

/// The least time between two probes or polls of a backend, from the last response to the next request.
pub(crate) const GAP: Duration = Duration::from_secs(1);

/// The probes and polls of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pacing {
    gap: Duration,
    /// When the last request was sent, or its response received.
    last: Option<Instant>,
    /// When the last probe started.
    started: Option<Instant>,
    probing: bool,
    /// A probe was requested while another one was running, whose result may be older than the request.
    called: bool,
}

impl Pacing {
    /// For a backend without a request so far. `gap` is [`GAP`], or less if probes are scheduled more often than that.
    pub(crate) fn new(gap: Duration) -> Self {
        Self { gap, last: None, started: None, probing: false, called: false }
    }

    /// Whether a probe has started after `then`.
    pub(crate) fn has_probed_since(&self, then: Instant) -> bool {
        self.started.is_some_and(|started| started > then)
    }

    /// Requests a probe. Returns when it is due. `None` while one is running: its end returns when the next one is due.
    pub(crate) fn call(&mut self, now: Instant) -> Option<Instant> {
        if self.probing {
            self.called = true;
            return None;
        }
        Some(self.earliest(now))
    }

    /// A probe starts, for all requests so far.
    pub(crate) fn start(&mut self, now: Instant) {
        *self = Self { gap: self.gap, last: Some(now), started: Some(now), probing: true, called: false };
    }

    /// The probe ends; `answered` is false if it was abandoned. Returns when the next probe is due, if one was requested
    /// meanwhile.
    pub(crate) fn end(&mut self, answered: bool, now: Instant) -> Option<Instant> {
        if answered {
            self.last = Some(now);
        }
        self.probing = false;
        std::mem::take(&mut self.called).then(|| self.earliest(now))
    }

    /// Requests the load, without a probe. `Ok`: now, which counts as sent. `Err`: not before this time.
    pub(crate) fn poll(&mut self, now: Instant) -> Result<(), Instant> {
        match self.earliest(now) {
            at if at > now => Err(at),
            _ => {
                self.last = Some(now);
                Ok(())
            }
        }
    }

    fn earliest(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| now.max(last + self.gap))
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
    fn the_first_probe_starts_at_once_and_the_next_a_second_after_the_response() {
        let now = epoch();
        let answered = now + Duration::from_millis(300);
        let mut pacing = Pacing::new(GAP);
        assert_eq!(pacing.call(now), Some(now));
        pacing.start(now);
        assert_eq!(pacing.end(true, answered), None);
        for _ in 0..3 {
            assert_eq!(pacing.call(answered), Some(answered + GAP));
            assert_eq!(pacing.poll(answered), Err(answered + GAP));
        }
        assert_eq!(pacing.poll(answered + GAP), Ok(()));
        assert_eq!(pacing.call(answered + GAP), Some(answered + 2 * GAP));
    }

    #[test]
    fn a_request_during_a_probe_leads_to_one_more_probe() {
        let now = epoch();
        let mut pacing = Pacing::new(GAP);
        pacing.start(now);
        for _ in 0..3 {
            assert_eq!(pacing.call(now), None);
        }
        assert_eq!(pacing.end(true, now), Some(now + GAP));
        pacing.start(now + GAP);
        assert_eq!(pacing.end(true, now + GAP), None);
    }

    #[test]
    fn an_abandoned_probe_may_be_repeated_at_once() {
        let now = epoch();
        let mut pacing = Pacing::new(GAP);
        pacing.start(now);
        assert_eq!(pacing.call(now), None);
        let given_up = now + Duration::from_secs(2);
        assert_eq!(pacing.end(false, given_up), Some(given_up));
    }

    proptest! {
        /// A driver as described above, with one timer. Each probe takes 300 ms.
        #[test]
        fn probes_are_spaced_and_no_request_is_lost(events in prop::collection::vec((0u64..700, any::<bool>()), 1..60)) {
            let took = Duration::from_millis(300);
            let (start, mut pacing) = (epoch(), Pacing::new(GAP));
            let (mut probes, mut polls, mut last_call): (Vec<Instant>, Vec<Instant>, _) = (Vec::new(), Vec::new(), None);
            let (mut due, mut ends): (Option<Instant>, Option<Instant>) = (None, None);
            let mut events = events.into_iter().scan(start, |at, (wait, is_call)| {
                *at += Duration::from_millis(wait);
                Some((*at, is_call))
            }).peekable();
            while let Some(now) = [ends, due, events.peek().map(|event| event.0)].into_iter().flatten().min() {
                if ends == Some(now) {
                    ends = None;
                    due = pacing.end(true, now);
                } else if due == Some(now) {
                    // A poll may have been sent before.
                    due = pacing.call(now).filter(|at| *at > now);
                    if due.is_none() {
                        pacing.start(now);
                        probes.push(now);
                        ends = Some(now + took);
                    }
                } else if let Some((_, is_call)) = events.next() {
                    if is_call {
                        last_call = Some(now);
                        due = pacing.call(now);
                    } else if pacing.poll(now).is_ok() {
                        polls.push(now);
                    }
                }
            }
            prop_assert_eq!(probes.last() >= last_call.as_ref(), true);
            let mut asked = [probes, polls].concat();
            asked.sort();
            prop_assert!(asked.is_sorted_by(|a, b| *b - *a >= GAP), "{asked:?}");
        }
    }
}
