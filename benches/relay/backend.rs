//! The mock backend: one model, and answers made to a plan. It never parses what it is asked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::measure::now;

pub const MODEL: &str = "bench";

/// Bytes of the shortest body that is a request: the agent proves a path by asking for nothing.
const SHORTEST: usize = 8;

/// How each answer looks.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Events before the last ones.
    pub events: usize,
    /// Bytes of an event's text.
    pub text: usize,
    /// Time between events; none is as fast as it goes.
    pub every: Option<Duration>,
    /// When streams begin.
    pub phase: Phase,
}

/// When the timed events of streams fall.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// Together, as one server's are that computes a token for all streams at once.
    Together,
    /// Spread over the time between two events, as those of many servers are.
    Spread,
}

impl Plan {
    /// Events as fast as they go.
    pub fn rush(events: usize, text: usize) -> Self {
        Self { events, text, every: None, phase: Phase::Together }
    }

    /// How long the n-th stream waits for its first event.
    fn wait(&self, stream: u32) -> Duration {
        match (self.phase, self.every) {
            // Multiples of the golden ratio fall evenly however many they are. All streams are there when the first begins.
            (Phase::Spread, Some(every)) => {
                every.mul_f64(1.0 + f64::from(stream.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX))
            }
            _ => Duration::ZERO,
        }
    }
}

/// Listens on loopback and serves the plan until it is dropped.
pub async fn start(plan: Plan) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    // Thousands of streams start at once: a queue that overflows drops connections that their clients believe in.
    let listener = socket.listen(8192).unwrap();
    let addr = listener.local_addr().unwrap();
    let plan = Arc::new(plan);
    let serving = tokio::spawn(async move {
        let mut streams = 0_u32;
        while let Ok((stream, _)) = listener.accept().await {
            let plan = Arc::clone(&plan);
            streams = streams.wrapping_add(1);
            let wait = plan.wait(streams);
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                // A client that leaves is no fault.
                let _ = serve(stream, &plan, wait).await;
            });
        }
    });
    (addr, serving)
}

/// A listener that accepts and never answers.
pub async fn hole() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    (addr, holding)
}

async fn serve(mut stream: TcpStream, plan: &Plan, wait: Duration) -> io::Result<()> {
    let mut buf = Vec::with_capacity(64 * 1024);
    loop {
        let Some(head) = read_head(&mut stream, &mut buf).await? else { return Ok(()) };
        let text = String::from_utf8_lossy(&buf[..head]).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse::<usize>().unwrap());
        let mut body = buf.len() - head;
        buf.clear();
        while body < length {
            buf.clear();
            buf.reserve(64 * 1024);
            body += stream.read_buf(&mut buf).await?;
        }
        buf.clear();
        if text.starts_with("get /v1/models ") {
            let list = format!(r#"{{"object":"list","data":[{{"id":"{MODEL}","object":"model"}}]}}"#);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", list.len());
            stream.write_all((head + &list).as_bytes()).await?;
        } else if text.starts_with("post /v1/chat/completions ") && length < SHORTEST {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
        } else if text.starts_with("post /v1/chat/completions ") {
            answer(&mut stream, plan, wait).await?;
        } else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?;
        }
        if text.contains("connection: close") {
            return Ok(());
        }
    }
}

async fn read_head(stream: &mut TcpStream, buf: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = memchr::memmem::find(buf, b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if stream.read_buf(buf).await? == 0 {
            return Ok(None);
        }
    }
}

/// Appends one event as an HTTP chunk of its own, as servers send them.
fn event(out: &mut Vec<u8>, text: &str) {
    let body = format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"t\":\"{:016}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n",
        now()
    );
    out.extend_from_slice(format!("{:x}\r\n{body}\r\n", body.len()).as_bytes());
}

fn chunk(out: &mut Vec<u8>, body: &str) {
    out.extend_from_slice(format!("{:x}\r\n{body}\r\n", body.len()).as_bytes());
}

async fn answer(stream: &mut TcpStream, plan: &Plan, wait: Duration) -> io::Result<()> {
    let mut out = Vec::with_capacity(160 * 1024);
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    let text = "x".repeat(plan.text);
    let start = tokio::time::Instant::now() + wait;
    let mut timer = plan.every.map(|every| tokio::time::interval_at(start, every));
    for _ in 0..plan.events {
        if let Some(timer) = &mut timer {
            if !out.is_empty() {
                stream.write_all(&out).await?;
                out.clear();
            }
            timer.tick().await;
            event(&mut out, &text);
            stream.write_all(&out).await?;
            out.clear();
        } else {
            event(&mut out, &text);
            if out.len() >= 64 * 1024 {
                stream.write_all(&out).await?;
                out.clear();
            }
        }
    }
    chunk(&mut out, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n");
    chunk(&mut out, "data: [DONE]\n\n");
    chunk(&mut out, "");
    stream.write_all(&out).await
}
