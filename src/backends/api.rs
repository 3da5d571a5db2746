//! An HTTP API: where it is, the key that opens it, and a client for it. Knows nothing of the requests; driven by
//! `client` for jobs and by `probe` for probes.

use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use url::Url;

use crate::core::formats::key_trace::KeyTrace;
use crate::messages::backend::Format;
use crate::messages::endpoint::Endpoint;
use crate::messages::secret::Secret;
use crate::transport::http::{IdleConnections, Method, Origin, Request};

const USER_AGENT: &str = concat!("outpost/", env!("CARGO_PKG_VERSION"));

/// The version of Anthropic's API that requests name.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Where an API is and what opens it. Shared by all threads.
#[derive(Clone)]
pub(super) struct Api {
    origin: Arc<Origin>,
    /// The path before `/v1`, without a slash at its end.
    prefix: Arc<str>,
    key: Option<Secret>,
}

impl Api {
    /// `url` may end in `/v1`, as operators write it either way. Credentials, query and fragment in it are dropped.
    pub(super) fn new(url: &Url, key: Option<Secret>, tls: Arc<ClientConfig>) -> Self {
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/');
        Self { origin: Arc::new(Origin::new(url, tls)), prefix: path.into(), key }
    }

    /// One at a port of this host, without TLS.
    pub(super) fn local(port: u16, key: Option<Secret>) -> Self {
        Self { origin: Arc::new(Origin::local(port)), prefix: "".into(), key }
    }

    /// What finds the key in a text, if there is one.
    pub(super) fn key_trace(&self) -> Option<KeyTrace> {
        self.key.as_ref().and_then(KeyTrace::of)
    }

    /// A client.
    ///
    /// It follows no redirect, so that the key and the prompt reach the configured host only, and reads no proxy from
    /// the environment. It has no limit of connections and no deadline beyond connecting: callers have both.
    pub(super) fn client(&self) -> ApiClient {
        ApiClient { api: self.clone(), idle: None }
    }

    /// The same, but its requests use connections that earlier ones have left open.
    pub(super) fn reusing_client(&self) -> ApiClient {
        ApiClient { api: self.clone(), idle: Some(Rc::default()) }
    }
}

/// A client of one API. Cheap to clone: all of it is shared but the key.
#[derive(Clone)]
pub(super) struct ApiClient {
    api: Api,
    idle: Option<Rc<IdleConnections>>,
}

impl ApiClient {
    /// A request with the key in it. Closing its connection cancels it.
    pub(super) fn request(&self, method: Method, path: &str) -> Request {
        let Api { origin, prefix, key } = &self.api;
        let request =
            Request::new(origin, self.idle.as_ref(), method, &[prefix, path]).header("user-agent", &[USER_AGENT]);
        // A key that can't stand in a header is left out; the server then reports that it wants one.
        match key {
            Some(key) => request.header("authorization", &["Bearer ", key.reveal()]),
            None => request,
        }
    }

    /// A POST of JSON to a path.
    pub(super) fn post_json(&self, path: &str) -> Request {
        self.request(Method::Post, path).header("content-type", &["application/json"])
    }

    /// A POST of JSON to an endpoint, with the headers that its format wants.
    pub(super) fn post(&self, endpoint: Endpoint) -> Request {
        let request = self.post_json(endpoint.path());
        match endpoint.format() {
            Format::OpenAi => request,
            Format::Anthropic => {
                let request = request.header("anthropic-version", &[ANTHROPIC_VERSION]);
                match &self.api.key {
                    Some(key) => request.header("x-api-key", &[key.reveal()]),
                    None => request,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(url: &str, key: Option<Secret>) -> Api {
        Api::new(&url.parse().unwrap(), key, crate::transport::tls::client_config(None).unwrap())
    }

    fn base(url: &str) -> String {
        let Api { origin, prefix, .. } = api(url, None);
        format!("{}{prefix}", origin.authority())
    }

    #[test]
    fn a_base_url_may_or_may_not_name_the_version() {
        assert_eq!(base("http://127.0.0.1:8000"), "127.0.0.1:8000");
        assert_eq!(base("http://127.0.0.1:8000/v1/"), "127.0.0.1:8000");
        assert_eq!(base("https://host.example/api/v1"), "host.example/api");
        assert_eq!(base("http://[::1]:8080/"), "[::1]:8080");
        assert_eq!(base("http://user:pass@host/x?y#z"), "host/x");
    }

    #[test]
    fn the_head_has_what_the_format_wants() {
        let client = api("https://host.example/api/v1", Some(Secret::new("canary"))).client();
        let expected = [
            "POST /api/v1/messages HTTP/1.1",
            "host: host.example",
            "connection: close",
            "accept-encoding: identity",
            concat!("user-agent: outpost/", env!("CARGO_PKG_VERSION")),
            "authorization: Bearer canary",
            "content-type: application/json",
            "anthropic-version: 2023-06-01",
            "x-api-key: canary",
        ];
        assert_eq!(client.post(Endpoint::Messages).head().lines().collect::<Vec<_>>(), expected);
        assert!(!client.post(Endpoint::ChatCompletions).head().contains("x-api-key"));
        assert!(client.request(Method::Get, "/v1/models?x").head().starts_with("GET /api/v1/models?x HTTP/1.1\r\n"));
    }

    #[test]
    fn a_key_that_can_not_stand_in_a_header_is_left_out() {
        let client = api("http://host", Some(Secret::new("a\r\nb: c"))).client();
        let request = client.post(Endpoint::Messages);
        assert!(!request.head().contains("authorization") && !request.head().contains("b: c"));
    }
}
