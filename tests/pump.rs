//! The pump writes what is ready in one go, and not a byte of a job that was cancelled.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is amiss")]

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use outpost::messages::ids::{Generation, JobId};
use outpost::messages::wire::{Capabilities, ErrorCode, Extensions, FromAgent, Heartbeat, JobError, Limits, Metadata};
use outpost::protocol::close::LinkEnd;
use outpost::transport::frame::{Frame, FrameReader, Role, encode};
use outpost::transport::lease::JobGrip;
use outpost::transport::link::{Link, Upgraded};
use outpost::transport::pump::{self, Inbox, PumpEnd};
use outpost::transport::uplink::{NotSent, Uplink};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// A stream that counts how often it is written to.
struct Counted(DuplexStream, Rc<Cell<usize>>);

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.set(self.1.get() + 1);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Deaf;

impl Inbox for Deaf {
    async fn text(&mut self, _: Bytes) -> Option<FromAgent> {
        None
    }

    fn binary(&mut self, _: usize) {}
}

/// Pumps what `fill` queues, up to a close frame. What the peer gets, and how many writes it took.
async fn pumped(fill: impl FnOnce(&Uplink)) -> (Vec<Frame>, usize) {
    let (near, mut far) = tokio::io::duplex(16 << 20);
    let writes = Rc::new(Cell::new(0));
    let stream = Box::new(Counted(near, Rc::clone(&writes)));
    let link = Link::new(Upgraded { stream, leftover: BytesMut::new() }, Role::Client, 1024);
    let (uplink, downstream) = Uplink::new(Generation(1), Extensions::NONE);
    fill(&uplink);
    uplink.close(1000, "").unwrap();
    let peer = async {
        let mut reader = FrameReader::new(Role::Server, 1 << 20, BytesMut::new());
        let mut frames = Vec::new();
        while !matches!(frames.last(), Some(Frame::Close { .. })) {
            far.read_buf(reader.space()).await.unwrap();
            while let Some(frame) = reader.pop().unwrap() {
                frames.push(frame);
            }
        }
        drop(far);
        frames
    };
    let mut inbox = Deaf;
    let (end, frames) = futures_util::join!(pump::run(link, downstream, &mut inbox), peer);
    assert_eq!(end, PumpEnd::ClosedByUs);
    (frames, writes.get())
}

fn failed(job: JobId) -> FromAgent {
    let (error_code, message) = (ErrorCode::Internal, String::new());
    FromAgent::JobError(JobError { job_id: job, error_code, message, tokens_emitted: 0 })
}

#[actix_rt::test]
async fn frames_that_are_ready_share_a_write() {
    let (_grip, lease) = JobGrip::new();
    let job = JobId::random();
    let (frames, writes) =
        pumped(|uplink| (0..100).for_each(|_| uplink.try_chunk(job, &lease, b"token").unwrap())).await;
    assert_eq!((frames.len(), writes), (101, 1));
}

#[actix_rt::test]
async fn a_thousand_frames_take_a_write_for_each_32_kib() {
    let (_grip, lease) = JobGrip::new();
    let job = JobId::random();
    let (frames, writes) =
        pumped(|uplink| (0..1000).for_each(|_| uplink.try_chunk(job, &lease, &[0; 120]).unwrap())).await;
    let bytes = 1000 * 254;
    assert_eq!((frames.len(), writes), (1001, bytes / (32 * 1024) + 1));
}

#[actix_rt::test]
async fn a_write_is_small_enough_for_a_pong_behind_it() {
    let (_grip, lease) = JobGrip::new();
    let job = JobId::random();
    let queue = |uplink: &Uplink| (0..50).for_each(|_| uplink.try_chunk(job, &lease, &[0; 32 * 1024]).unwrap());
    let (frames, writes) = pumped(queue).await;
    assert_eq!((frames.len(), writes), (51, 51), "a full chunk is a write of its own");
}

#[actix_rt::test]
async fn nothing_that_waits_is_written_after_a_cancel_nor_after_the_last_frame() {
    let (grip, cancelled) = JobGrip::new();
    let (other, ended) = JobGrip::new();
    let (frames, _) = pumped(|uplink| {
        let (one, two) = (JobId::random(), JobId::random());
        uplink.try_chunk(one, &cancelled, b"never").unwrap();
        assert!(cancelled.claim() && ended.claim());
        uplink.terminal(&cancelled, failed(one), None, || panic!("it is not written")).unwrap();
        drop(grip);
        uplink.terminal(&ended, failed(two), None, || {}).unwrap();
        uplink.try_chunk(two, &ended, b"too late").unwrap();
    })
    .await;
    assert_eq!(frames.len(), 2, "the other job's last frame, and the close: {frames:?}");
    other.release();
}

#[actix_rt::test]
async fn response_bytes_wait_for_room_in_the_budget() {
    let (_grip, lease) = JobGrip::new();
    let (uplink, downstream) = Uplink::new(Generation(1), Extensions::NONE);
    let job = JobId::random();
    let taken = (0..1000).take_while(|_| uplink.try_chunk(job, &lease, &[0; 32 * 1024]).is_ok()).count();
    assert!((90..=96).contains(&taken), "{taken} chunks of 32 KiB fit into 4 MiB of base64");
    let (binary, _downstream) = Uplink::new(Generation(2), Extensions::all());
    let taken = (0..1000).take_while(|_| binary.try_chunk(job, &lease, &[0; 32 * 1024]).is_ok()).count();
    assert_eq!(taken, 127, "chunks of 32 KiB with their heads fit into 4 MiB as they are");
    assert_eq!(uplink.try_chunk(job, &lease, &[0; 32 * 1024]), Err(NotSent::Full));
    drop(downstream);
    assert!(matches!(uplink.try_chunk(job, &lease, b"x"), Err(NotSent::Gone(_))));
}

fn capabilities(version: &str) -> FromAgent {
    FromAgent::Capabilities(Capabilities {
        models: Vec::new(),
        limits: Limits { max_concurrent_total: 1, max_tokens_per_minute: None },
        metadata: Metadata { agent_version: version.to_owned() },
    })
}

fn heartbeat(queue_depth: u64) -> FromAgent {
    FromAgent::Heartbeat(Heartbeat { queue_depth, ..Heartbeat::default() })
}

#[actix_rt::test]
async fn of_capabilities_and_heartbeats_that_wait_only_the_newest_are_written() {
    let (frames, _) = pumped(|uplink| {
        for round in 0..1000 {
            uplink.control(&capabilities(&round.to_string())).unwrap();
            uplink.control(&heartbeat(round)).unwrap();
        }
    })
    .await;
    let text = |frame: &FromAgent| Frame::Text(serde_json::to_vec(frame).unwrap().into());
    assert_eq!(frames[..2], [text(&capabilities("999")), text(&heartbeat(999))]);
    assert_eq!(frames.len(), 3, "and the close");
}

/// Answers every text, at once or by way of the uplink.
struct Answering {
    uplink: Option<Uplink>,
    taken: usize,
}

impl Inbox for Answering {
    async fn text(&mut self, _: Bytes) -> Option<FromAgent> {
        self.taken += 1;
        let answer = failed(JobId::random());
        match &self.uplink {
            None => Some(answer),
            Some(uplink) => {
                uplink.control(&answer).unwrap();
                None
            }
        }
    }

    fn binary(&mut self, _: usize) {}
}

#[actix_rt::test]
async fn a_peer_that_takes_no_answers_is_not_read() {
    tokio::time::pause();
    for by_uplink in [false, true] {
        let (near, mut far) = tokio::io::duplex(4096);
        let link = Link::new(Upgraded { stream: Box::new(near), leftover: BytesMut::new() }, Role::Client, 1024);
        let (uplink, downstream) = Uplink::new(Generation(1), Extensions::NONE);
        let mut inbox = Answering { uplink: by_uplink.then_some(uplink), taken: 0 };
        let mut frames = BytesMut::new();
        (0..10_000).for_each(|_| encode(&mut frames, Role::Server, &Frame::Text(Bytes::from_static(b"{}"))));
        let (end, sent) = futures_util::join!(pump::run(link, downstream, &mut inbox), far.write_all(&frames));
        assert_eq!((end, sent.is_err()), (PumpEnd::Link(LinkEnd::WriteStalled), true));
        // Besides those that wait, a write holds some.
        assert!((1024..1400).contains(&inbox.taken), "{} of 10,000 were taken", inbox.taken);
    }
}
