//! Limits the wrong enrollment codes of each network, so that a code can't be guessed. Used by
//! [`Admission`](super::handshake::Admission).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::peer::Network;

/// How long wrong codes are counted, from the first one on. Then the count restarts.
const WINDOW: Duration = Duration::from_secs(60);
/// The most wrong codes of one network in a window. Agents with a wrong code that retry with their backoff stay below it.
const MAX_FAILED: u32 = 30;
/// The most networks that are counted in a window.
const MAX_NETWORKS: usize = 4096;

/// The wrong codes of the current window.
#[derive(Default)]
pub(crate) struct FailedCodes {
    since: Option<Instant>,
    wrong: HashMap<Network, u32>,
}

impl FailedCodes {
    /// Whether a code from this network may be compared now.
    pub(crate) fn allows(&self, network: Network, now: Instant) -> bool {
        if self.is_over(now) {
            return true;
        }
        match self.wrong.get(&network) {
            Some(wrong) => *wrong < MAX_FAILED,
            None => self.wrong.len() < MAX_NETWORKS,
        }
    }

    /// Counts a wrong code. Call it only after [`Self::allows`] returned true.
    pub(crate) fn count(&mut self, network: Network, now: Instant) {
        if self.is_over(now) {
            self.wrong.clear();
            self.since = Some(now);
        }
        *self.wrong.entry(network).or_default() += 1;
    }

    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::agents::peer::Peer;

    fn network(addr: &str) -> Network {
        Peer(Some(addr.parse().unwrap())).network()
    }

    #[test]
    fn wrong_codes_are_limited_by_network_and_only_for_a_while() {
        let (mut failed_codes, start) = (FailedCodes::default(), Instant::now());
        let (here, there) = (network("192.0.2.1:1"), network("192.0.2.2:1"));
        for _ in 0..MAX_FAILED {
            assert!(failed_codes.allows(here, start));
            failed_codes.count(here, start);
        }
        assert!(!failed_codes.allows(here, start + WINDOW / 2));
        assert!(failed_codes.allows(there, start + WINDOW / 2));
        assert!(failed_codes.allows(here, start + WINDOW));
        failed_codes.count(here, start + WINDOW);
        assert!(failed_codes.allows(here, start + WINDOW));
    }

    #[test]
    fn wrong_codes_from_very_many_networks_are_limited_too() {
        let (mut failed_codes, start) = (FailedCodes::default(), Instant::now());
        let numbered = |number: usize| network(&format!("10.0.{}.{}:1", number >> 8, number & 0xff));
        for number in 0..MAX_NETWORKS {
            assert!(failed_codes.allows(numbered(number), start));
            failed_codes.count(numbered(number), start);
        }
        assert!(!failed_codes.allows(numbered(MAX_NETWORKS), start));
        assert!(failed_codes.allows(numbered(0), start));
        assert!(failed_codes.allows(numbered(MAX_NETWORKS), start + WINDOW));
    }
}
