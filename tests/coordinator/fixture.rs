//! Clients of the API of a coordinator, over HTTP. Every wait has a deadline. The coordinator and its scripted agents are
//! those of the testkit.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use outpost::testkit::{CoordinatorConfig, CoordinatorHandle, RealCoordinator, TIMEOUT, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Waits for a future, for a bounded time.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    within("an event", future).await
}

/// The provider id that goes with the key.
pub(crate) fn provider_id(key: &SigningKey) -> String {
    let hex: String = key.verifying_key().as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("agent-{hex}")
}

/// The default configuration, for a free port of loopback.
pub(crate) fn config() -> CoordinatorConfig {
    RealCoordinator::config()
}

/// Requests that find all agents busy are refused at once.
pub(crate) fn without_queue(config: &mut CoordinatorConfig) {
    config.queue_time = Duration::ZERO;
}

/// A coordinator on a free port.
pub(crate) struct Coordinator {
    agent_url: String,
    server: RealCoordinator,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config();
        change(&mut config);
        let server = RealCoordinator::start(config);
        Self { agent_url: server.agent_url(), server }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    pub(crate) fn handle(&self) -> &CoordinatorHandle {
        self.server.handle()
    }

    /// Where agents connect.
    pub(crate) fn agent_url(&self) -> &str {
        &self.agent_url
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    pub(crate) fn get(&self, path: &str) -> awc::ClientRequest {
        client().get(self.url(path)).timeout(TIMEOUT)
    }

    pub(crate) fn post(&self, path: &str) -> awc::ClientRequest {
        client().post(self.url(path)).content_type("application/json").timeout(TIMEOUT)
    }

    /// Waits until so many requests wait for a slot.
    pub(crate) async fn until_waiting(&self, requests: usize) {
        let waiting = async || Answer::of(self.get("/healthz"), "").await.json()["waiting"] == requests;
        soon(async { while !waiting().await {} }).await;
    }

    /// Posts a body and takes the whole answer.
    pub(crate) async fn ask(&self, path: &str, body: &str) -> Answer {
        Answer::of(self.post(path), body).await
    }

    /// The same from this address, in the background.
    pub(crate) fn asking_from(&self, from: IpAddr, path: &str, body: &str) -> actix_rt::task::JoinHandle<Answer> {
        let client = awc::Client::builder().connector(awc::Connector::new().local_address(from)).finish();
        let request = client.post(self.url(path)).content_type("application/json").timeout(TIMEOUT);
        let body = body.to_owned();
        actix_rt::spawn(async move { Answer::of(request, &body).await })
    }

    /// The same as [`Self::ask`] in the background.
    pub(crate) fn asking(&self, path: &str, body: &str) -> actix_rt::task::JoinHandle<Answer> {
        let (request, body) = (self.post(path), body.to_owned());
        actix_rt::spawn(async move { Answer::of(request, &body).await })
    }
}

/// Posts a body by hand, in the background, and takes all that comes until the connection ends, as it is on the wire.
pub(crate) fn posting(addr: SocketAddr, path: &str, body: &str) -> actix_rt::task::JoinHandle<String> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let request = head + body;
    actix_rt::spawn(async move {
        let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        soon(socket.read_to_end(&mut seen)).await.unwrap();
        String::from_utf8(seen).unwrap()
    })
}

fn client() -> awc::Client {
    awc::Client::builder().connector(awc::Connector::new().limit(0)).finish()
}

/// A response, read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(request: awc::ClientRequest, body: &str) -> Self {
        let mut response = soon(request.force_close().send_body(body.to_owned())).await.expect("a response");
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, retry_after) = (response.status().as_u16(), header("retry-after"));
        assert_eq!(header("server").as_deref(), Some("outpost-coordinator"));
        assert_eq!(retry_after.is_some(), matches!(status, 429 | 503), "{status} {retry_after:?}");
        let content_type = header("content-type");
        let body = soon(response.body().limit(64 << 20)).await.expect("a body");
        Self {
            status,
            content_type: content_type.unwrap_or_default(),
            retry_after,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }
}
