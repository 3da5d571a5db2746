//! The mock coordinator: one agent, jobs at a given rate, and the frames that it receives.

use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use outpost::internals::{FrameReader, Role, encode};
use outpost::messages::ids::JobId;
use outpost::messages::wire::{BinaryChunk, Extension, Extensions, FromAgent, FromCoordinator};
use outpost::testkit::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::backend::MODEL;
use crate::measure::now;

const AUTH_OK: &str = r#"{"type":"auth_ok","provider_id":"bench"}"#;
const AUTH_OK_WITH_SESSION: &str =
    r#"{"type":"auth_ok","provider_id":"bench","session":"bench","resume_window_ms":60000}"#;

/// Bytes of a response after which they are acknowledged, as `outpost coordinator` does.
const ACKNOWLEDGED_EACH: u64 = 32 << 10;

pub struct Coordinator {
    listener: TcpListener,
}

/// An agent after `auth_ok`.
pub struct Session {
    stream: TcpStream,
    reader: FrameReader,
    out: BytesMut,
    /// Whether `resume` is agreed on: all that is received is acknowledged.
    acknowledges: bool,
    /// When `auth_ok` went out.
    pub authenticated: u64,
}

/// What an agent says of a job.
pub enum Said {
    /// Bytes of its response.
    Chunk(JobId, Bytes),
    /// Its end; false is an error.
    End(JobId, bool),
    /// What it offers.
    Capabilities(usize),
}

impl Coordinator {
    pub async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Takes one agent through the handshake, with these extensions on offer.
    pub async fn accept(&self, offered: Extensions) -> Session {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = BytesMut::new();
        let end = loop {
            stream.read_buf(&mut head).await.unwrap();
            if let Some(at) = memchr::memmem::find(&head, b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = String::from_utf8(head.split_to(end).to_vec()).unwrap();
        let key = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let accept = actix_http::ws::hash_key(key.unwrap().as_bytes());
        let accept = std::str::from_utf8(&accept).unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let reader = FrameReader::new(Role::Server, 64 << 20, head);
        let acknowledges = offered.contains(Extension::Resume);
        let mut session = Session { stream, reader, out: BytesMut::new(), acknowledges, authenticated: 0 };
        let nonce = STANDARD.encode(rand::random::<[u8; 32]>());
        let challenge = FromCoordinator::AuthChallenge { nonce, extensions: offered };
        session.send(serde_json::to_vec(&challenge).unwrap().into()).await;
        let _response = session.message().await;
        let answer = if acknowledges { AUTH_OK_WITH_SESSION } else { AUTH_OK };
        session.send(answer.into()).await;
        session.authenticated = now();
        session
    }
}

const DATA: &[u8] = br#","data":""#;

/// A job for the model, with this request.
pub fn job(request: &str) -> (JobId, Bytes) {
    let id = JobId::random();
    let text = format!(
        r#"{{"type":"job","job_id":"{id}","model_id":"{MODEL}","format":"openai","deadline_ms":600000,"request":{request}}}"#
    );
    (id, text.into())
}

impl Session {
    pub async fn send(&mut self, text: Bytes) {
        encode(&mut self.out, Role::Server, &Frame::Text(text));
        self.flush().await;
    }

    /// The next frame with something in it.
    async fn message(&mut self) -> Frame {
        loop {
            match self.reader.pop().unwrap() {
                Some(frame @ (Frame::Text(_) | Frame::Binary(_))) => return frame,
                Some(Frame::Ping(payload)) => {
                    encode(&mut self.out, Role::Server, &Frame::Pong(payload));
                    self.flush().await;
                }
                Some(_) => {}
                None => {
                    let read = self.stream.read_buf(self.reader.space()).await.unwrap();
                    assert!(read > 0, "the agent went away");
                }
            }
        }
    }

    /// What the agent says next of jobs or models.
    pub async fn next(&mut self) -> Said {
        loop {
            let text = match self.message().await {
                Frame::Binary(frame) => {
                    let chunk = BinaryChunk::parse(&frame).unwrap();
                    return Said::Chunk(chunk.job.into(), chunk.bytes);
                }
                Frame::Text(text) => text,
                _ => continue,
            };
            // Chunks are picked apart by hand: this program shares its cores with the one it measures.
            if let Some(rest) = text.strip_prefix(br#"{"type":"job_chunk","job_id":""#) {
                let id = std::str::from_utf8(&rest[..36]).unwrap().parse().unwrap();
                let data = memchr::memmem::find(&rest[36..], DATA).unwrap() + 36 + DATA.len();
                let data = &rest[data..rest.len() - 2];
                return Said::Chunk(id, base64_simd::STANDARD.decode_to_vec(data).unwrap().into());
            }
            match serde_json::from_slice(&text).unwrap() {
                FromAgent::JobDone(done) => return Said::End(done.job_id, true),
                FromAgent::JobError(error) => {
                    eprintln!("job_error {} {}", error.error_code, error.message);
                    return Said::End(error.job_id, false);
                }
                FromAgent::Capabilities(capabilities) => return Said::Capabilities(capabilities.models.len()),
                _ => {}
            }
        }
    }

    async fn acknowledge(&mut self, job: JobId, trace: &mut Trace) {
        if self.acknowledges && trace.bytes >= trace.acknowledged + ACKNOWLEDGED_EACH {
            trace.acknowledged = trace.bytes;
            self.send(format!(r#"{{"type":"ack","job_id":"{job}","offset":{}}}"#, trace.bytes).into()).await;
        }
    }

    /// Goes along with the next frame, as from `outpost coordinator`.
    fn acknowledge_end(&mut self, job: JobId) {
        if self.acknowledges {
            let ack = format!(r#"{{"type":"ack","job_id":"{job}","final":true}}"#);
            encode(&mut self.out, Role::Server, &Frame::Text(ack.into()));
        }
    }

    /// Sends what was to go along with another frame.
    async fn flush(&mut self) {
        self.stream.write_all(&self.out).await.unwrap();
        self.out.clear();
    }

    /// Waits until a model is on offer.
    pub async fn offered(&mut self) {
        while !matches!(self.next().await, Said::Capabilities(1..)) {}
    }
}

/// What one job brought.
#[derive(Default)]
pub struct Trace {
    pub sent: u64,
    pub acknowledged: u64,
    pub first_byte: Option<u64>,
    pub stamps: crate::measure::Stamps,
    pub bytes: u64,
}

/// What a run of jobs brought.
#[derive(Default)]
pub struct Outcome {
    pub jobs: usize,
    pub failed: usize,
    pub bytes: u64,
    /// Ages of events, in nanoseconds.
    pub ages: Vec<u64>,
    /// From a job's start to its first byte, in nanoseconds.
    pub first_bytes: Vec<u64>,
    /// As the first job ended: the bytes of the job that had the fewest, as a share of what each would have had if all had
    /// had the same. Of jobs that all run at once.
    pub least_share: f64,
}

/// The smallest of these, as a share of their mean.
pub fn least_share(bytes: &[u64]) -> f64 {
    let (least, sum) = (bytes.iter().min().copied().unwrap_or_default(), bytes.iter().sum::<u64>());
    least as f64 * bytes.len() as f64 / sum as f64
}

impl Outcome {
    pub fn add(&mut self, trace: Trace, good: bool) {
        self.jobs += 1;
        self.failed += usize::from(!good);
        self.bytes += trace.bytes;
        self.ages.extend(trace.stamps.ages);
        self.first_bytes.extend(trace.first_byte.map(|first| first - trace.sent));
    }
}

/// Runs `jobs` jobs, `at_once` at a time.
pub async fn run(session: &mut Session, jobs: usize, at_once: usize, request: &str) -> Outcome {
    let mut running: HashMap<JobId, Trace> = HashMap::new();
    let mut outcome = Outcome::default();
    let mut started = 0;
    while outcome.jobs < jobs {
        while started < jobs && running.len() < at_once {
            let (id, text) = job(request);
            running.insert(id, Trace { sent: now(), ..Trace::default() });
            session.send(text).await;
            started += 1;
        }
        match session.next().await {
            Said::Chunk(id, bytes) => {
                let trace = running.get_mut(&id).unwrap();
                trace.first_byte.get_or_insert_with(now);
                trace.bytes += bytes.len() as u64;
                trace.stamps.feed(&bytes);
                session.acknowledge(id, trace).await;
            }
            Said::End(id, good) => {
                session.acknowledge_end(id);
                if outcome.jobs == 0 {
                    let bytes: Vec<u64> = running.values().map(|trace| trace.bytes).collect();
                    outcome.least_share = least_share(&bytes);
                }
                outcome.add(running.remove(&id).unwrap(), good);
            }
            Said::Capabilities(_) => {}
        }
    }
    session.flush().await;
    outcome
}
