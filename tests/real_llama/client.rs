//! A client of an HTTP API, be it the inference server's or the coordinator's, with its own reader of event streams.

use std::collections::VecDeque;

use actix_http::HttpMessage as _;
use awc::ClientResponse;
use awc::http::Method;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::waiting::within;

/// An API.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    key: Option<&'static str>,
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// An event of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; OpenAI's have none.
    pub(crate) name: Option<String>,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.data).ok()
    }

    /// Whether the model says something in it.
    pub(crate) fn has_text(&self) -> bool {
        let Some(chunk) = self.json() else { return false };
        let text = chunk["choices"][0]["delta"]["content"].as_str().or(chunk["delta"]["text"].as_str());
        text.is_some_and(|text| !text.is_empty())
    }
}

impl Api {
    pub(crate) fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), key: None }
    }

    pub(crate) fn with_key(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Where it is: scheme, host and port.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request on a connection of its own. `None` if nobody answers.
    async fn send(&self, method: Method, path: &str, body: &Value) -> Option<ClientResponse> {
        let http = awc::Client::builder().connector(awc::Connector::new().limit(0)).disable_timeout().finish();
        let mut request = http.request(method.clone(), format!("{}{path}", self.base)).force_close();
        if let Some(key) = self.key {
            request = request.bearer_auth(key);
        }
        let sent = if method == Method::GET { request.send() } else { request.send_json(body) };
        within(path, sent).await.ok()
    }

    /// A document, if somebody answers with success.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let mut response = self.send(Method::GET, path, &Value::Null).await?;
        let body =
            response.status().is_success().then_some(within(path, response.body().limit(4 << 20)).await.ok()?)?;
        Some(serde_json::from_slice(&body).expect("a readable document"))
    }

    /// A page of text.
    pub(crate) async fn text(&self, path: &str) -> String {
        let mut response = self.send(Method::GET, path, &Value::Null).await.expect("an answer");
        let body = within(path, response.body().limit(4 << 20)).await.expect("a whole body");
        String::from_utf8(body.into()).expect("text")
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.find(path).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Whole {
        let mut response = self.send(Method::POST, path, body).await.expect("an answer");
        let status = response.status().as_u16();
        let body = within(path, response.body().limit(4 << 20)).await.expect("a whole body");
        Whole { status, body: serde_json::from_slice(&body).expect("JSON") }
    }

    /// The same, when the answer is a stream.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Events {
        let response = self.send(Method::POST, path, body).await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.content_type(), "text/event-stream");
        Events { response, unread: Vec::new(), ready: VecDeque::new() }
    }
}

/// A stream of events. Dropping it closes the connection.
pub(crate) struct Events {
    response: ClientResponse,
    unread: Vec<u8>,
    ready: VecDeque<Event>,
}

impl Events {
    /// The next event; `None` where the stream ends, in order or not.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let bytes = within("an event", self.response.next()).await?.ok()?;
            self.unread.extend_from_slice(&bytes);
            while let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                self.ready.extend(read(str::from_utf8(&block).expect("text")));
            }
        }
    }

    /// All that is still to come.
    pub(crate) async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Waits until the model has said something.
    pub(crate) async fn until_tokens_flow(&mut self) {
        loop {
            if self.next().await.expect("more of the answer").has_text() {
                return;
            }
        }
    }
}

/// A block between blank lines; a comment alone is no event.
fn read(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Event { name: field("event").map(str::to_owned), data: field("data")?.to_owned() })
}
