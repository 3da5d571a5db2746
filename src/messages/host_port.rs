//! The host and port of a coordinator in one canonical form, which both ends of the wire write into what `auth2` signs. The
//! agent's connector takes it from the URL, the coordinator's configuration from its list of names.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// `host:port` as the URL parser writes it: lower case, punycode, an IPv6 address in brackets. The port is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort(String);

/// A text that is not a host and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host and a port")]
pub struct NotAHostPort;

impl HostPort {
    /// Those of a URL, with the port of its scheme if it names none. `None` without a host or a port.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        Some(Self(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)))
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads `host:port` in any form that a URL may have. The port must be there, because the default depends on the scheme.
impl FromStr for HostPort {
    type Err = NotAHostPort;

    fn from_str(text: &str) -> Result<Self, NotAHostPort> {
        // These would begin another part of a URL, are dropped silently by its parser, or make a pattern, which is not a host.
        let strange = |letter: char| {
            letter.is_control() || letter.is_whitespace() || matches!(letter, '/' | '\\' | '?' | '#' | '@' | '*')
        };
        let (_, port) = text.rsplit_once(':').filter(|_| !text.contains(strange)).ok_or(NotAHostPort)?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        if !is_port {
            return Err(NotAHostPort);
        }
        let url = Url::parse(&format!("ws://{text}/")).map_err(|_| NotAHostPort)?;
        Self::of(&url).ok_or(NotAHostPort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_a_name_of_the_same_coordinator_have_the_same_form() {
        for (url, name, want) in [
            ("wss://coordinator.example/agent", "coordinator.example:443", "coordinator.example:443"),
            ("wss://Coordinator.EXAMPLE:443", "COORDINATOR.example:443", "coordinator.example:443"),
            ("wss://coordinator.example:8443/a?b=c", "coordinator.example:08443", "coordinator.example:8443"),
            ("ws://coordinator.example/", "coordinator.example:80", "coordinator.example:80"),
            ("wss://bücher.example/", "BÜCHER.example:443", "xn--bcher-kva.example:443"),
            ("wss://coordinator.example./", "coordinator.example.:443", "coordinator.example.:443"),
            ("ws://127.0.0.1:7700/agent", "127.1:7700", "127.0.0.1:7700"),
            ("ws://[::1]:7700/agent", "[0:0::1]:7700", "[::1]:7700"),
            ("ws://[2001:DB8::a]/", "[2001:db8:0::A]:80", "[2001:db8::a]:80"),
            ("ws://[::ffff:10.0.0.1]:1/", "[::ffff:10.0.0.1]:1", "[::ffff:a00:1]:1"),
        ] {
            let of_url = HostPort::of(&Url::parse(url).unwrap()).unwrap();
            assert_eq!((of_url.as_str(), of_url.to_string().as_str()), (want, want), "{url}");
            assert_eq!(name.parse(), Ok(of_url), "{name}");
        }
    }

    #[test]
    fn a_text_without_a_port_or_with_more_than_a_host_and_a_port_is_refused() {
        for text in [
            "",
            ":",
            ":443",
            "coordinator.example",
            "coordinator.example:",
            "coordinator.example:0",
            "coordinator.example:65536",
            "coordinator.example:+443",
            "coordinator.example:wss",
            "coordinator.example:443/agent",
            "wss://coordinator.example:443",
            "user@coordinator.example:443",
            "coordinator.example:443?a",
            "coordinator.example:443#a",
            "coordinator .example:443",
            "*.example:443",
            "[::1]",
            "::1:443",
            "300.1.1.1:443",
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(NotAHostPort), "{text}");
        }
    }
}
