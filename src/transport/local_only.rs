//! Distinguishes an HTTP request by a program on this machine from one that a web page made a browser send.
//!
//! Every page that a browser on this machine shows can send requests to a server on loopback. A page can also point a name
//! of its own at 127.0.0.1 (DNS rebinding), and the `Host` header then has that name. `Origin` names the site of the page.
//! The status page and the coordinator's API use these rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a `Host` header names this machine: `localhost`, a name below it, or a loopback address, with or without a
/// port.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let Some((name, port)) = split(host) else { return false };
    port.bytes().all(|byte| byte.is_ascii_digit()) && is_loopback(name)
}

/// Whether `origin`, the value of an `Origin` header, is the server that `host`, the value of `Host`, names.
pub(crate) fn is_own_origin(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// A host and its port, which may be empty. An IPv6 address keeps its brackets.
fn split(host: &str) -> Option<(&str, &str)> {
    let end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, rest) = host.split_at_checked(end)?;
    Some((name, if rest.is_empty() { rest } else { rest.strip_prefix(':')? }))
}

fn is_loopback(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| IpAddr::V6(address).to_canonical().is_loopback());
    }
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    // Browsers resolve these names themselves, to loopback only.
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_named_by_loopback_addresses_and_localhost() {
        for host in [
            "localhost",
            "LocalHost:7700",
            "app.localhost:1",
            "127.0.0.1",
            "127.0.0.1:7700",
            "127.8.8.8:",
            "[::1]",
            "[::1]:7700",
            "[::ffff:127.0.0.1]:7700",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            ":7700",
            "evil.example",
            "evil.example:7700",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0:7700",
            "[fd00::1]:7700",
            "[::1",
            "[::1]x",
            "::1",
            "localhost:7700@evil.example",
            "localhost:80:90",
            "user@localhost",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_the_own_one_where_host_and_port_are_the_same() {
        assert!(is_own_origin("http://localhost:7700", "LOCALHOST:7700"));
        assert!(is_own_origin("https://[::1]:7700", "[::1]:7700"));
        for origin in
            ["null", "", "http://localhost:3000", "http://localhost", "file://localhost:7700", "localhost:7700"]
        {
            assert!(!is_own_origin(origin, "localhost:7700"), "{origin}");
        }
    }
}
