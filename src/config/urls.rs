//! Which URLs are accepted, for the coordinator and for backends, and how one is shown without what may be secret in it.

use url::{Host, Url};

use super::report::Cause;

/// The operator's setting for unencrypted traffic to other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insecure {
    /// Refuse it: the default.
    Refused,
    /// Let it through, with a warning.
    Allowed,
}

/// Whether a URL leads to this very host.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The coordinator's URL: `wss`, or `ws` to this host.
pub(super) fn coordinator(text: &str, insecure: Insecure) -> Result<Url, Cause> {
    let url = parse(text)?;
    let plain = match url.scheme() {
        "wss" => false,
        "ws" => true,
        _ => return Err(Cause::Scheme("wss://")),
    };
    without_credentials_or_fragment(&url)?;
    if matches!(url.host(), Some(Host::Ipv6(_))) && !plain {
        return Err(Cause::TlsToIpv6);
    }
    if plain && !is_loopback(&url) && insecure == Insecure::Refused {
        return Err(Cause::PlainToOtherHost);
    }
    Ok(url)
}

/// A backend's URL: `http` or `https`, without what people paste along: a slash or `/v1` at its end.
pub(super) fn backend(text: &str) -> Result<Url, Cause> {
    let mut url = parse(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Cause::Scheme("http:// or https://"));
    }
    without_credentials_or_fragment(&url)?;
    if url.query().is_some() {
        return Err(Cause::Query);
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// A URL with a host, before any rule of its own.
pub(super) fn parse(text: &str) -> Result<Url, Cause> {
    // The parser drops control characters and white space in silence.
    if text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err(Cause::NotAUrl);
    }
    let url = Url::parse(text).map_err(|_| Cause::NotAUrl)?;
    match url.port() {
        Some(0) => Err(Cause::PortZero),
        _ => Ok(url),
    }
}

fn without_credentials_or_fragment(url: &Url) -> Result<(), Cause> {
    if !url.username().is_empty() || url.password().is_some() {
        Err(Cause::Credentials)
    } else if url.fragment().is_some() {
        Err(Cause::Fragment)
    } else {
        Ok(())
    }
}

/// What was meant to be a URL, without its user, password, query and fragment, any of which may be a secret. Takes text
/// that is not a URL, and then rather hides too much.
pub(super) fn masked(text: &str) -> String {
    let (before, rest) =
        text.split_once("://").map_or((String::new(), text), |(scheme, rest)| (format!("{scheme}://"), rest));
    let (hidden, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    let cut = rest.find(['?', '#']).unwrap_or(rest.len());
    let (shown, tail) = rest.split_at(cut);
    let mark = tail.chars().next().map(|mark| format!("{mark}…")).unwrap_or_default();
    format!("{before}{hidden}{}{mark}", without_odd_port(shown))
}

/// A host whose port is not a number may be a user with the first part of a password.
fn without_odd_port(text: &str) -> String {
    let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    match authority.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && !port.ends_with(']') && !port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            format!("{host}:…")
        }
        _ => format!("{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_reached_encrypted_or_on_this_host() {
        use Insecure::{Allowed, Refused};
        let accepted = |text: &str, insecure| coordinator(text, insecure).map(|url| url.to_string());
        for text in [
            "wss://coordinator.example/agent",
            "wss://192.0.2.7/",
            "wss://coordinator.example/a?fleet=7",
            "ws://127.0.0.1:9000/agent",
            "ws://127.8.9.1/",
            "ws://[::1]:9000/",
            "ws://localhost/",
        ] {
            assert_eq!(accepted(text, Refused).as_deref(), Ok(text));
        }
        for (text, cause) in [
            ("ws://coordinator.example/", Cause::PlainToOtherHost),
            ("ws://localhost.example/", Cause::PlainToOtherHost),
            ("ws://10.0.0.1/", Cause::PlainToOtherHost),
            ("ws://0.0.0.0/", Cause::PlainToOtherHost),
            ("ws://[2001:db8::1]/", Cause::PlainToOtherHost),
            ("wss://[::1]/", Cause::TlsToIpv6),
            ("wss://[2001:db8::1]:443/", Cause::TlsToIpv6),
            ("https://coordinator.example/", Cause::Scheme("wss://")),
            ("coordinator.example:443", Cause::Scheme("wss://")),
            ("coordinator.example", Cause::NotAUrl),
            ("wss://", Cause::NotAUrl),
            ("wss://:443/", Cause::NotAUrl),
            ("wss://a b/", Cause::NotAUrl),
            ("wss://a/\n", Cause::NotAUrl),
            ("wss://a:0/", Cause::PortZero),
            ("wss://a:99999/", Cause::NotAUrl),
            ("wss://user@a/", Cause::Credentials),
            ("wss://:pass@a/", Cause::Credentials),
            ("wss://a/#part", Cause::Fragment),
        ] {
            assert_eq!(accepted(text, Refused), Err(cause), "{text}");
        }
        assert!(accepted("ws://coordinator.example/", Allowed).is_ok());
        assert_eq!(accepted("wss://[::1]/", Allowed), Err(Cause::TlsToIpv6));
    }

    #[test]
    fn a_backend_is_taken_without_what_is_pasted_along() {
        for (text, expected) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
            ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/"),
            ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/"),
            ("https://gpu.example/llm//v1", "https://gpu.example/llm"),
            ("http://[::1]:8000/", "http://[::1]:8000/"),
            ("http://gpu/v1beta", "http://gpu/v1beta"),
        ] {
            assert_eq!(backend(text).map(String::from).as_deref(), Ok(expected), "{text}");
        }
        for (text, cause) in [
            ("ws://a", Cause::Scheme("http:// or https://")),
            ("localhost:8000", Cause::Scheme("http:// or https://")),
            ("unix:/run/x", Cause::Scheme("http:// or https://")),
            ("127.0.0.1:8000", Cause::NotAUrl),
            ("http://u:p@a", Cause::Credentials),
            ("http://a?key=x", Cause::Query),
            ("http://a#x", Cause::Fragment),
            ("http://a:0", Cause::PortZero),
        ] {
            assert_eq!(backend(text), Err(cause), "{text}");
        }
    }

    #[test]
    fn what_may_be_secret_in_a_url_is_not_shown() {
        for (text, expected) in [
            ("wss://user:canary@host/path", "wss://…@host/path"),
            ("wss://user:can/ary@x@host:1/path", "wss://…@host:1/path"),
            ("user:canary@host:3128", "…@host:3128"),
            ("wss://host/path?token=canary", "wss://host/path?…"),
            ("wss://host/path#canary", "wss://host/path#…"),
            ("http://user:canary", "http://user:…"),
            ("http://user:canary/x", "http://user:…"),
            ("http://[::1]:8000/x", "http://[::1]:8000/x"),
            ("http://[::1]/x", "http://[::1]/x"),
            ("vllm=http://127.0.0.1:8000", "vllm=http://127.0.0.1:8000"),
            ("big@vllm=http://u:canary@h", "big@vllm=http://…@h"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
