//! Where a connection comes from. Used by agents' sessions, their events and the limit of wrong codes, and to tell the clients
//! of the API apart.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of a connection, if the system knows it.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Network(Option<IpAddr>);

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
}
