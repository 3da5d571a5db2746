//! The client of the two references: the same requests sent straight to the backend, or to the hop, one connection a job.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::coordinator::{Outcome, Trace, least_share};
use crate::measure::now;

/// Runs `jobs` jobs, `at_once` at a time.
pub async fn run(backend: SocketAddr, jobs: usize, at_once: usize, request: &str) -> Outcome {
    let left = Arc::new(AtomicUsize::new(jobs));
    let request: Arc<str> = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: floor\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{request}",
        request.len()
    )
    .into();
    let shares = Arc::new(Shares::new(at_once.min(jobs)));
    let clients: Vec<_> = (0..at_once.min(jobs))
        .map(|client| {
            let (left, request, shares) = (Arc::clone(&left), Arc::clone(&request), Arc::clone(&shares));
            tokio::spawn(async move {
                let mut traces = Vec::new();
                while left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok() {
                    traces.push(one(backend, &request, &shares.bytes[client]).await);
                    shares.job_ended();
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
    outcome.least_share = shares.at_first_end.get().copied().unwrap_or(f64::NAN);
    outcome
}

/// What each client has read so far, and how evenly that was spread as the first job ended.
struct Shares {
    bytes: Vec<AtomicU64>,
    at_first_end: OnceLock<f64>,
}

impl Shares {
    fn new(clients: usize) -> Self {
        Self { bytes: (0..clients).map(|_| AtomicU64::new(0)).collect(), at_first_end: OnceLock::new() }
    }

    fn job_ended(&self) {
        self.at_first_end.get_or_init(|| {
            let bytes: Vec<u64> = self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect();
            least_share(&bytes)
        });
    }
}

async fn one(backend: SocketAddr, request: &str, read: &AtomicU64) -> Trace {
    let mut trace = Trace { sent: now(), ..Trace::default() };
    let mut stream = TcpStream::connect(backend).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buf = Vec::with_capacity(64 * 1024);
    while stream.read_buf(&mut buf).await.unwrap() > 0 {
        trace.first_byte.get_or_insert_with(now);
        trace.bytes += buf.len() as u64;
        read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        trace.stamps.feed(&buf);
        buf.clear();
    }
    trace
}
