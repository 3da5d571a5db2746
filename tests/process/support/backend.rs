//! An inference server that answers looks by itself and hands every job's request to the test, with its connection.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::within;

/// What ends a stream well: 3 tokens in, 5 out.
pub(crate) const LAST_EVENTS: &str = concat!(
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\"total_tokens\":8}}\n\n",
    "data: [DONE]\n\n"
);

/// An event with a piece of the answer.
pub(crate) fn token(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// The server.
pub(crate) struct Backend {
    addr: SocketAddr,
    requests: mpsc::Receiver<Exchange>,
}

impl Backend {
    /// A server of this model with chat completions alone.
    pub(crate) async fn start(model: &str) -> Self {
        Self::serve(model, "404 Not Found").await
    }

    /// A server of this model that has `/v1/messages` too.
    pub(crate) async fn with_messages(model: &str) -> Self {
        Self::serve(model, "400 Bad Request").await
    }

    async fn serve(model: &str, empty_message: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let models = json!({"object": "list", "data": [{"id": model, "object": "model"}]}).to_string();
        let (arrived, requests) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (models, arrived) = (models.clone(), arrived.clone());
                tokio::spawn(async move {
                    let Some(mut exchange) = Exchange::read(stream).await else { return };
                    match (exchange.line.as_str(), exchange.body.as_slice()) {
                        ("GET /v1/models", _) => exchange.answer("200 OK", &models).await,
                        // Questions which endpoints there are.
                        ("POST /v1/messages", b"{}") => exchange.answer(empty_message, "{}").await,
                        ("POST /v1/chat/completions", b"{}") => exchange.answer("400 Bad Request", "{}").await,
                        (_, b"{}") => exchange.answer("404 Not Found", "{}").await,
                        (line, _) if line.starts_with("GET ") => exchange.answer("404 Not Found", "{}").await,
                        // Nobody takes it where the test is over.
                        _ => drop(arrived.send(exchange).await),
                    }
                });
            }
        });
        Self { addr, requests }
    }

    /// What the configuration says of it; a name may stand before it.
    pub(crate) fn entry(&self) -> String {
        format!("openai=http://{}", self.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next request of a job.
    pub(crate) async fn request(&mut self) -> Exchange {
        within("request at the backend", self.requests.recv()).await.unwrap()
    }

    /// Whether no request of a job waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }
}

/// A request and the connection it came on.
pub(crate) struct Exchange {
    /// The first line without its version.
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) stream: TcpStream,
}

impl Exchange {
    async fn read(mut stream: TcpStream) -> Option<Self> {
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut raw).await.ok()? == 0 {
                return None;
            }
        };
        let body = raw.split_off(end);
        let head = String::from_utf8(raw).ok()?;
        let line = head.lines().next()?.rsplit_once(' ')?.0.to_owned();
        let mut exchange = Self { line, head, body, stream };
        let length: usize = exchange.header("content-length").map_or(0, |length| length.parse().unwrap());
        exchange.body.reserve_exact(length.saturating_sub(exchange.body.len()));
        while exchange.body.len() < length {
            if exchange.stream.read_buf(&mut exchange.body).await.ok()? == 0 {
                return None;
            }
        }
        Some(exchange)
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Writes bytes as they are. An agent that has left is none of the test's business here.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        let _ = within("room for bytes at the backend", self.stream.write_all(bytes)).await;
    }

    /// The whole of a response.
    pub(crate) async fn answer(&mut self, status: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.raw(format!("{head}{body}").as_bytes()).await;
    }

    /// The head of a stream of events.
    pub(crate) async fn open_stream(&mut self) {
        self.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    /// Bytes of the stream, in a chunk of their own.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.raw(format!("{:x}\r\n", bytes.len()).as_bytes()).await;
        self.raw(bytes).await;
        self.raw(b"\r\n").await;
    }

    /// A good end of the stream.
    pub(crate) async fn finish(&mut self) {
        self.send(LAST_EVENTS).await;
        self.raw(b"0\r\n\r\n").await;
    }

    /// Waits until the agent has closed the connection.
    pub(crate) async fn closed(&mut self) {
        within("end of the connection to the backend", self.left()).await;
    }

    /// Whether the agent closes the connection in this time.
    pub(crate) async fn closed_in(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.left()).await.is_ok()
    }

    async fn left(&mut self) {
        while self.stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    }
}
