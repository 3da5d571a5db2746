//! Which requests the API serves while it has no key: those of programs on this machine. A request that a web page sends
//! through a browser, or that a proxy forwards, is refused.
//!
//! A web page can make a browser send requests to loopback. It cannot remove `Host` and `Origin`, and it cannot send
//! `application/json` to another site unless that site allows it in answer to a preflight request, which is refused here.

use actix_web::http::header::{CONTENT_TYPE, FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, VIA};

use crate::transport::local_only::{is_own_origin, is_this_machine};

/// Headers that only proxies add.
const PROXY_HEADERS: [HeaderName; 5] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

/// Why a request without a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotLocal {
    /// `Host` does not name this machine.
    #[error(
        "without an API key the Host header must be localhost or a loopback address: set OUTPOST_COORDINATOR_API_KEY"
    )]
    Host,
    /// A web page of another site sent it.
    #[error("without an API key requests of web pages from other origins are refused: set OUTPOST_COORDINATOR_API_KEY")]
    Origin,
    /// A proxy forwarded it, so its sender may be anywhere.
    #[error("without an API key requests that a proxy forwards are refused: set OUTPOST_COORDINATOR_API_KEY")]
    Proxied,
}

/// Refuses a request that may not come from a program on this machine. Browsers always send `Host`, so a request without
/// one is served.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), NotLocal> {
    if PROXY_HEADERS.iter().any(|name| headers.contains_key(name)) {
        return Err(NotLocal::Proxied);
    }
    let text = |name: &HeaderName| headers.get_all(name).map(|value| value.to_str().unwrap_or_default());
    if !text(&HOST).all(is_this_machine) {
        return Err(NotLocal::Host);
    }
    let host = text(&HOST).next().unwrap_or_default();
    if text(&ORIGIN).all(|origin| is_own_origin(origin, host)) { Ok(()) } else { Err(NotLocal::Origin) }
}

/// Whether `Content-Type` is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn programs_on_this_machine_are_served_and_web_pages_of_other_sites_are_refused() {
        let host = (HOST, "127.0.0.1:7700");
        assert_eq!(check(&headers(&[])), Ok(()));
        assert_eq!(check(&headers(std::slice::from_ref(&host))), Ok(()));
        assert_eq!(check(&headers(&[host.clone(), (ORIGIN, "http://127.0.0.1:7700")])), Ok(()));
        assert_eq!(check(&headers(&[(HOST, "evil.example")])), Err(NotLocal::Host));
        assert_eq!(check(&headers(&[host.clone(), (HOST, "evil.example")])), Err(NotLocal::Host));
        for origin in ["https://evil.example", "null", "http://localhost:3000"] {
            assert_eq!(check(&headers(&[host.clone(), (ORIGIN, origin)])), Err(NotLocal::Origin), "{origin}");
        }
        for name in PROXY_HEADERS {
            assert_eq!(check(&headers(&[host.clone(), (name.clone(), "192.0.2.1")])), Err(NotLocal::Proxied), "{name}");
        }
    }

    #[test]
    fn the_content_type_is_json_with_and_without_parameters() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("text/plain", false),
            ("text/plain; application/json", false),
            ("application/jsonp", false),
        ] {
            assert_eq!(is_json(&headers(&[(CONTENT_TYPE, value)])), json, "{value}");
        }
        assert!(!is_json(&headers(&[])));
    }
}
