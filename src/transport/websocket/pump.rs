//! The pump: moves the frames of one open connection, reading and writing at the same time.
//!
//! Pings are answered here, control frames overtake response bytes, all frames that are ready share one write, and
//! silence or a write that stands still ends the connection. What a text frame means is the inbox's business.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};

use super::codec::Frame;
use super::line::{Line, Next, Source};
use super::link::Reader;
use crate::core::session::close::LinkEnd;
use crate::messages::wire::FromAgent;

/// How often we ping.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Bytes gathered for one write. Small, so that a pong never waits behind much.
const BATCH: usize = 32 * 1024;
/// How long the last frames and the peer's answer to our close may take.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What takes the text frames of a connection.
pub(crate) trait Inbox {
    /// Takes one text frame; the next one is read when it is done. What it returns is sent as a control frame.
    fn text(&mut self, frame: Bytes) -> impl Future<Output = Option<FromAgent>>;

    /// A binary frame came, which the base protocol does not have.
    fn binary(&mut self, len: usize);
}

/// How a pumped connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PumpEnd {
    /// The peer or the network ended it.
    Link(LinkEnd),
    /// We closed it, and everything queued before went out.
    ClosedByUs,
}

/// Pumps until the connection ends: reads frames for the `inbox`, and writes those of the line and of its `source`.
pub(crate) async fn run(mut reader: Reader, line: &Line, source: &impl Source, inbox: &mut impl Inbox) -> PumpEnd {
    let _shut = ShutOnDrop { line, source };
    let urgent = Urgent::default();
    let end = tokio::select! {
        end = read_all(&mut reader, line, &urgent, inbox) => PumpEnd::Link(end),
        end = write_all(line, source, &urgent) => end,
        end = watch(line, &urgent) => PumpEnd::Link(end),
    };
    let parting = match &end {
        PumpEnd::ClosedByUs => {
            // The peer's close frame is a courtesy: without it the connection is as closed.
            let _ = timeout(CLOSE_GRACE, drain(&mut reader)).await;
            return end;
        }
        PumpEnd::Link(LinkEnd::CloseFrame { code, .. }) => *code,
        PumpEnd::Link(LinkEnd::Violation(_)) => Some(1002),
        PumpEnd::Link(LinkEnd::TooLarge) => Some(1009),
        PumpEnd::Link(_) => return end,
    };
    line.push(&Frame::Close { code: parting, reason: String::new() });
    line.close();
    // The connection ends either way.
    let _ = timeout(CLOSE_GRACE, line.flush()).await;
    end
}

/// However the pump ends, the stream is closed, also for the threads that write by themselves.
struct ShutOnDrop<'a, S: Source> {
    line: &'a Line,
    source: &'a S,
}

impl<S: Source> Drop for ShutOnDrop<'_, S> {
    fn drop(&mut self) {
        self.line.shut();
        self.source.link_ended();
    }
}

/// The frames that the pump makes itself. They go before all others. One task, so no lock.
#[derive(Default)]
struct Urgent {
    /// The payload of the newest ping that has no answer yet; older ones need none (RFC 6455, 5.5.3).
    pong: Cell<Option<Bytes>>,
    /// Our ping is due.
    ping: Cell<bool>,
}

impl Urgent {
    fn pop(&self) -> Option<Frame> {
        if let Some(payload) = self.pong.take() {
            return Some(Frame::Pong(payload));
        }
        self.ping.take().then(|| Frame::Ping(Bytes::new()))
    }
}

async fn read_all(reader: &mut Reader, line: &Line, urgent: &Urgent, inbox: &mut impl Inbox) -> LinkEnd {
    loop {
        // A peer that sends jobs and does not take the answers is held back.
        line.control.room().await;
        let frame = match reader.ready() {
            Err(end) => return end,
            Ok(Some(frame)) => frame,
            Ok(None) => match reader.read().await {
                Err(end) => return end,
                Ok(()) => {
                    line.liveness().heard(Instant::now().into_std());
                    continue;
                }
            },
        };
        match frame {
            Frame::Text(bytes) => {
                if let Some(answer) = inbox.text(bytes).await {
                    // The line is not gone as long as it is read from.
                    let _ = line.control(&answer);
                }
            }
            Frame::Binary(bytes) => inbox.binary(bytes.len()),
            Frame::Ping(payload) => {
                urgent.pong.set(Some(payload));
                line.wake();
            }
            Frame::Pong(_) => {}
            Frame::Close { code, reason } => return LinkEnd::CloseFrame { code, reason },
        }
        // Many frames may lie in the buffer: the writer gets its turn between them.
        tokio::task::consume_budget().await;
    }
}

async fn write_all(line: &Line, source: &impl Source, urgent: &Urgent) -> PumpEnd {
    loop {
        let next = line.append(|out| {
            while out.waiting().len() < BATCH {
                if let Some(frame) = urgent.pop().or_else(|| line.control.pop()) {
                    out.push(&frame);
                    continue;
                }
                match source.append_next(out) {
                    Next::Appended => {}
                    last => return last,
                }
            }
            Next::Appended
        });
        if next == Next::Closed {
            line.close();
        }
        if let Err(end) = line.flush().await {
            return PumpEnd::Link(end);
        }
        match next {
            Next::Closed => return PumpEnd::ClosedByUs,
            Next::Nothing => line.work.notified().await,
            // The reader gets its turn between writes.
            Next::Appended => tokio::task::consume_budget().await,
        }
    }
}

/// Pings, and notices silence.
async fn watch(line: &Line, urgent: &Urgent) -> LinkEnd {
    let mut next_ping = Instant::now() + PING_EVERY;
    loop {
        let dead_at = Instant::from_std(line.liveness().dead_at());
        sleep_until(next_ping.min(dead_at)).await;
        let now = Instant::now();
        if line.liveness().is_dead(now.into_std()) {
            return LinkEnd::Silence;
        }
        if now >= next_ping {
            next_ping = now + PING_EVERY;
            urgent.ping.set(true);
            line.wake();
        }
    }
}

/// Reads up to the peer's close frame or the end of the stream.
async fn drain(reader: &mut Reader) {
    loop {
        match reader.ready() {
            Ok(None) => {
                if reader.read().await.is_err() {
                    return;
                }
            }
            Ok(Some(Frame::Close { .. })) | Err(_) => return,
            Ok(Some(_)) => {}
        }
    }
}
