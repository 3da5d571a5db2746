//! The HTTP proxy on the way to the coordinator, and the hosts that it is not used for. No dialling here.

use std::fmt;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use url::Host;
use zeroize::Zeroizing;

use super::reader::Reader;
use super::report::Cause;
use super::{units, urls, vars};
use crate::messages::secret::Secret;

/// A proxy that is sent `CONNECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its host name or IP address; an IPv6 address without brackets.
    pub addr_host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`, from the user and password in the URL.
    pub authorization: Option<Secret>,
    /// Where it is not used.
    pub no_proxy: NoProxy,
}

impl Proxy {
    /// Whether a connection to this host goes through the proxy. Never one to this host itself.
    pub fn applies_to(&self, host: &str, port: u16) -> bool {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let here = address.map_or(host == "localhost", |address| address.to_canonical().is_loopback());
        !here && !self.no_proxy.0.iter().any(|exception| exception.covers(&host, address, port))
    }

    /// Reads our variable, else those that other programs share. They are known in both cases; the lower one wins, as it
    /// does for curl.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let own = reader.parse(&vars::PROXY, parse);
        let proxy = own.or_else(|| reader.shared("https_proxy", &vars::PROXY, parse));
        let proxy = proxy.or_else(|| reader.shared("HTTPS_PROXY", &vars::PROXY, parse));
        let exceptions =
            reader.named("no_proxy", "localhost,.example").or_else(|| reader.named("NO_PROXY", "localhost,.example"));
        let no_proxy = NoProxy::from(exceptions.unwrap_or_default().as_str());
        proxy.flatten().map(|proxy| Self { no_proxy, ..proxy })
    }
}

/// A proxy's URL, with or without `http://`; `None` for `off`.
fn parse(text: &str) -> Result<Option<Proxy>, Cause> {
    if text == "off" {
        return Ok(None);
    }
    let url = if text.contains("://") { urls::parse(text) } else { urls::parse(&format!("http://{text}")) }?;
    if url.scheme() != "http" {
        return Err(Cause::Scheme("http://"));
    }
    match (url.path(), url.query(), url.fragment()) {
        ("/", None, None) => {}
        (_, Some(_), _) => return Err(Cause::Query),
        (_, _, Some(_)) => return Err(Cause::Fragment),
        _ => return Err(Cause::Path),
    }
    let addr_host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => return Err(Cause::NotAUrl),
    };
    let authorization = (!url.username().is_empty() || url.password().is_some())
        .then(|| basic(url.username(), url.password().unwrap_or_default()));
    let port = url.port_or_known_default().ok_or(Cause::NotAUrl)?;
    Ok(Some(Proxy { addr_host, port, authorization, no_proxy: NoProxy::default() }))
}

fn basic(user: &str, password: &str) -> Secret {
    let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    pair.extend(percent_decode_str(user));
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(&*pair)))
}

/// Hosts that are reached without the proxy, as `NO_PROXY` lists them: a host name with all below it, an IP address, a
/// network as `address/bits`, or `*`; each but the last two may end in `:port`. Anything else covers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Domain(String, Option<u16>),
    Address(IpAddr, Option<u16>),
    Network(IpAddr, u8),
}

impl From<&str> for NoProxy {
    fn from(text: &str) -> Self {
        Self(units::entries(text).map(Exception::from).collect())
    }
}

impl NoProxy {
    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Exception {
    fn from(entry: &str) -> Self {
        if entry == "*" {
            return Self::All;
        }
        let network =
            entry.split_once('/').and_then(|(address, bits)| Some((address.parse().ok()?, bits.parse().ok()?)));
        if let Some((address, bits)) = network {
            return Self::Network(address, bits);
        }
        let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if let Some(address) = bare(entry) {
            return Self::Address(address, None);
        }
        let with_port = entry.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = with_port.map_or((entry, None), |(host, port)| (host, Some(port)));
        match bare(host) {
            Some(address) => Self::Address(address, port),
            None => {
                let host = host.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
                Self::Domain(host, port)
            }
        }
    }
}

impl Exception {
    fn covers(&self, host: &str, address: Option<IpAddr>, at: u16) -> bool {
        let same_port = |port: &Option<u16>| port.is_none_or(|port| port == at);
        match self {
            Self::All => true,
            Self::Domain(domain, port) => {
                let below =
                    host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                !domain.is_empty() && address.is_none() && below && same_port(port)
            }
            Self::Address(own, port) => address == Some(*own) && same_port(port),
            Self::Network(own, bits) => address.is_some_and(|address| same_network(*own, address, *bits)),
        }
    }
}

fn same_network(left: IpAddr, right: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) if bits <= 32 => {
            (left.to_bits() ^ right.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V6(left), IpAddr::V6(right)) if bits <= 128 => {
            (left.to_bits() ^ right.to_bits()).leading_zeros() >= bits
        }
        _ => false,
    }
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, exception) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match exception {
                Exception::All => f.write_str("*")?,
                Exception::Domain(host, None) => f.write_str(host)?,
                Exception::Domain(host, Some(port)) => write!(f, "{host}:{port}")?,
                Exception::Address(address, None) => write!(f, "{address}")?,
                Exception::Address(address, Some(port)) => write!(f, "{}", std::net::SocketAddr::new(*address, *port))?,
                Exception::Network(address, bits) => write!(f, "{address}/{bits}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str, no_proxy: &str) -> Proxy {
        Proxy { no_proxy: NoProxy::from(no_proxy), ..parse(text).unwrap().unwrap() }
    }

    #[test]
    fn a_proxy_is_a_host_a_port_and_perhaps_a_user() {
        for (text, host, port, authorization) in [
            ("http://proxy.example:3128", "proxy.example", 3128, None),
            ("http://proxy.example/", "proxy.example", 80, None),
            ("proxy.example:3128", "proxy.example", 3128, None),
            ("http://[2001:db8::1]:8080", "2001:db8::1", 8080, None),
            ("http://user:pass@p:1", "p", 1, Some("Basic dXNlcjpwYXNz")),
            ("http://us%40er:p%3As@p:1", "p", 1, Some("Basic dXNAZXI6cDpz")),
            ("user:pass@p:1", "p", 1, Some("Basic dXNlcjpwYXNz")),
        ] {
            let read = parse(text).unwrap().unwrap();
            let seen = (read.addr_host.as_str(), read.port, read.authorization.as_ref().map(Secret::reveal));
            assert_eq!(seen, (host, port, authorization), "{text}");
        }
        assert_eq!(parse("off"), Ok(None));
        for (text, cause) in [
            ("https://p:1", Cause::Scheme("http://")),
            ("socks5://p:1", Cause::Scheme("http://")),
            ("http://", Cause::NotAUrl),
            ("http://p:1/path", Cause::Path),
            ("http://p:1/?q", Cause::Query),
            ("http://p:1#f", Cause::Fragment),
            ("http://p:0", Cause::PortZero),
        ] {
            assert_eq!(parse(text), Err(cause), "{text}");
        }
    }

    #[test]
    fn this_host_is_never_reached_through_a_proxy() {
        let proxy = proxy("http://p:1", "");
        for host in
            ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "::ffff:127.0.0.1"]
        {
            assert!(!proxy.applies_to(host, 80), "{host}");
        }
        for host in ["coordinator.example", "localhost.example", "10.0.0.1", "2001:db8::1"] {
            assert!(proxy.applies_to(host, 80), "{host}");
        }
    }

    #[test]
    fn listed_hosts_are_reached_directly() {
        for (no_proxy, host, port, direct) in [
            ("example", "a.example", 443, true),
            (".example", "a.example", 443, true),
            (".example", "example", 443, true),
            ("*.example", "a.example", 443, true),
            ("A.Example.", "a.example", 443, true),
            ("example", "badexample", 443, false),
            ("a.example", "example", 443, false),
            ("other, a.example:443", "a.example", 443, true),
            ("a.example:444", "a.example", 443, false),
            ("10.0.0.1", "10.0.0.1", 443, true),
            ("10.0.0.1:1", "10.0.0.1", 443, false),
            ("0.1", "10.0.0.1", 443, false),
            ("10.0.0.0/8", "10.200.0.1", 443, true),
            ("10.0.0.0/8", "11.0.0.1", 443, false),
            ("10.0.0.0/33", "10.0.0.0", 443, false),
            ("0.0.0.0/0", "192.0.2.1", 443, true),
            ("2001:db8::/32", "[2001:db8::5]", 443, true),
            ("[2001:db8::5]:443", "2001:db8::5", 443, true),
            ("*", "a.example", 443, true),
            (".", "a.example", 443, false),
            ("", "a.example", 443, false),
        ] {
            assert_eq!(!proxy("http://p:1", no_proxy).applies_to(host, port), direct, "{no_proxy} {host}");
        }
    }

    #[test]
    fn exceptions_print_as_they_are_read() {
        let list = NoProxy::from("*, .example,a.b:1,10.0.0.1,[::1]:2,10.0.0.0/8");
        assert_eq!(list.to_string(), "*,example,a.b:1,10.0.0.1,[::1]:2,10.0.0.0/8");
        assert_eq!(NoProxy::from(list.to_string().as_str()), list);
    }
}
