//! The floor: the same requests sent straight to the backend, one connection a job.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::coordinator::{Outcome, Trace};
use crate::measure::now;

/// Runs `jobs` jobs, `at_once` at a time.
pub async fn run(backend: SocketAddr, jobs: usize, at_once: usize, request: &str) -> Outcome {
    let left = Arc::new(AtomicUsize::new(jobs));
    let request: Arc<str> = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: floor\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{request}",
        request.len()
    )
    .into();
    let clients: Vec<_> = (0..at_once.min(jobs))
        .map(|_| {
            let (left, request) = (Arc::clone(&left), Arc::clone(&request));
            tokio::spawn(async move {
                let mut traces = Vec::new();
                while left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok() {
                    traces.push(one(backend, &request).await);
                }
                traces
            })
        })
        .collect();
    let mut outcome = Outcome::default();
    for client in clients {
        for trace in client.await.unwrap() {
            outcome.add(trace, true);
        }
    }
    outcome
}

async fn one(backend: SocketAddr, request: &str) -> Trace {
    let mut trace = Trace { sent: now(), ..Trace::default() };
    let mut stream = TcpStream::connect(backend).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buf = Vec::with_capacity(64 * 1024);
    while stream.read_buf(&mut buf).await.unwrap() > 0 {
        trace.first_byte.get_or_insert_with(now);
        trace.bytes += buf.len() as u64;
        trace.stamps.feed(&buf);
        buf.clear();
    }
    trace
}
