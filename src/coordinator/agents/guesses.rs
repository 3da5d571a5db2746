//! Counts wrong enrollment codes by network, so that a code can't be guessed. Used by
//! [`Admission`](super::handshake::Admission).

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

/// How long wrong codes are counted, from the first one on. Then the count restarts.
const WINDOW: Duration = Duration::from_secs(60);
/// The most wrong codes of one network in a window. Agents with a wrong code that retry with their backoff stay below it.
const MOST_WRONG: u32 = 30;
/// The most networks that are counted in a window.
const MOST_NETWORKS: usize = 4096;

/// The address of an agent's connection, if the system knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) Option<SocketAddr>);

impl Peer {
    /// The network that the address belongs to.
    pub(crate) fn network(self) -> Network {
        Network(self.0.map(|addr| match addr.ip().to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            // One site usually owns all addresses with the same first 64 bits.
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        }))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// An IPv4 address, or the first 64 bits of an IPv6 address. All peers of unknown address are one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(Option<IpAddr>);

/// The wrong codes of the current window.
#[derive(Default)]
pub(crate) struct Guesses {
    since: Option<Instant>,
    wrong: HashMap<Network, u32>,
}

impl Guesses {
    /// Whether a code from this network may be compared now.
    pub(crate) fn may_guess(&self, network: Network, now: Instant) -> bool {
        if self.is_over(now) {
            return true;
        }
        match self.wrong.get(&network) {
            Some(wrong) => *wrong < MOST_WRONG,
            None => self.wrong.len() < MOST_NETWORKS,
        }
    }

    /// Counts a wrong code. May be called after [`Guesses::may_guess`] returned true.
    pub(crate) fn count_wrong(&mut self, network: Network, now: Instant) {
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

    fn network(addr: &str) -> Network {
        Peer(Some(addr.parse().unwrap())).network()
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_half_of_an_ipv6_address() {
        assert_eq!(network("192.0.2.1:1000"), network("192.0.2.1:2000"));
        assert_eq!(network("192.0.2.1:1000"), network("[::ffff:192.0.2.1]:1000"));
        assert_ne!(network("192.0.2.1:1000"), network("192.0.2.2:1000"));
        assert_eq!(network("[2001:db8::1]:1000"), network("[2001:db8::ffff:0:0:2]:1000"));
        assert_ne!(network("[2001:db8::1]:1000"), network("[2001:db8:0:1::1]:1000"));
        assert_eq!(Peer(None).network(), Peer(None).network());
    }

    #[test]
    fn wrong_codes_are_limited_by_network_and_only_for_a_while() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        let (here, there) = (network("192.0.2.1:1"), network("192.0.2.2:1"));
        for _ in 0..MOST_WRONG {
            assert!(guesses.may_guess(here, start));
            guesses.count_wrong(here, start);
        }
        assert!(!guesses.may_guess(here, start + WINDOW / 2));
        assert!(guesses.may_guess(there, start + WINDOW / 2));
        assert!(guesses.may_guess(here, start + WINDOW));
        guesses.count_wrong(here, start + WINDOW);
        assert!(guesses.may_guess(here, start + WINDOW));
    }

    #[test]
    fn guesses_from_very_many_networks_are_limited_too() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        let numbered = |number: usize| network(&format!("10.0.{}.{}:1", number >> 8, number & 0xff));
        for number in 0..MOST_NETWORKS {
            assert!(guesses.may_guess(numbered(number), start));
            guesses.count_wrong(numbered(number), start);
        }
        assert!(!guesses.may_guess(numbered(MOST_NETWORKS), start));
        assert!(guesses.may_guess(numbered(0), start));
        assert!(guesses.may_guess(numbered(MOST_NETWORKS), start + WINDOW));
    }
}
