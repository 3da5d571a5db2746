//! The pump: moves the frames of one open connection, reading and writing at the same time.
//!
//! Pings are answered here, control frames overtake response bytes, all frames that are ready share one write, and
//! silence or a write that stands still ends the connection. What a text frame means is the inbox's business.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::control::ControlQueue;
use super::frame::Frame;
use super::link::{Link, Reader, Room, Taken, Writer};
use super::uplink::{Data, Downstream};
use crate::messages::wire::FromAgent;
use crate::protocol::close::LinkEnd;
use crate::protocol::liveness::Liveness;

/// How often we ping.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Bytes gathered for one write. Small, so that a pong never waits behind much.
const BATCH: usize = 32 * 1024;
/// How long the last frames and the peer's answer to our close may take.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What takes the text frames of a connection.
pub trait Inbox {
    /// Takes one text frame; the next one is read when it is done. What it returns is sent as a control frame.
    fn text(&mut self, frame: Bytes) -> impl Future<Output = Option<FromAgent>>;

    /// A binary frame came, which the base protocol does not have.
    fn binary(&mut self, len: usize);
}

/// How a pumped connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PumpEnd {
    /// The peer or the network ended it.
    Link(LinkEnd),
    /// We closed it, and everything queued before went out.
    ClosedByUs,
}

/// Pumps until the connection ends.
pub async fn run(link: Link, queue: Downstream, inbox: &mut impl Inbox) -> PumpEnd {
    let Link { mut reader, mut writer } = link;
    let Downstream { control, mut data } = queue;
    let shared = Shared::new();
    let end = tokio::select! {
        end = read_all(&mut reader, &shared, &control, inbox) => PumpEnd::Link(end),
        end = write_all(&mut writer, &shared, &control, &mut data) => end,
        end = watch(&shared) => PumpEnd::Link(end),
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
    writer.push(&Frame::Close { code: parting, reason: String::new() });
    // The connection ends either way.
    let _ = timeout(CLOSE_GRACE, writer.flush(|_| ())).await;
    end
}

/// What the halves of a pump tell each other. One task, so no lock.
struct Shared {
    /// What came and went.
    liveness: Cell<Liveness>,
    /// The payload of the newest ping that has no answer yet; older ones need none (RFC 6455, 5.5.3).
    pong: Cell<Option<Bytes>>,
    /// Our ping is due.
    ping: Cell<bool>,
    /// Tells the writer that one of the above is there.
    work: Notify,
}

impl Shared {
    fn new() -> Self {
        Self {
            liveness: Cell::new(Liveness::new(Instant::now().into_std())),
            pong: Cell::new(None),
            ping: Cell::new(false),
            work: Notify::new(),
        }
    }

    fn heard(&self) {
        let mut liveness = self.liveness.get();
        liveness.heard(Instant::now().into_std());
        self.liveness.set(liveness);
    }

    fn taken(&self, taken: Taken) {
        let mut liveness = self.liveness.get();
        match taken.room {
            Room::AtOnce => liveness.sent(taken.bytes),
            Room::AfterWaiting => liveness.made_room(taken.bytes, Instant::now().into_std()),
        }
        self.liveness.set(liveness);
    }

    /// The most urgent frame of those that are made here.
    fn next_frame(&self) -> Option<Frame> {
        if let Some(payload) = self.pong.take() {
            return Some(Frame::Pong(payload));
        }
        self.ping.take().then(|| Frame::Ping(Bytes::new()))
    }
}

async fn read_all(reader: &mut Reader, shared: &Shared, control: &ControlQueue, inbox: &mut impl Inbox) -> LinkEnd {
    loop {
        // A peer that sends jobs and does not take the answers is held back.
        control.room().await;
        let frame = match reader.ready() {
            Err(end) => return end,
            Ok(Some(frame)) => frame,
            Ok(None) => match reader.read().await {
                Err(end) => return end,
                Ok(()) => {
                    shared.heard();
                    continue;
                }
            },
        };
        match frame {
            Frame::Text(bytes) => {
                if let Some(answer) = inbox.text(bytes).await {
                    control.answer(&answer);
                }
            }
            Frame::Binary(bytes) => inbox.binary(bytes.len()),
            Frame::Ping(payload) => {
                shared.pong.set(Some(payload));
                shared.work.notify_one();
            }
            Frame::Pong(_) => {}
            Frame::Close { code, reason } => return LinkEnd::CloseFrame { code, reason },
        }
        // Many frames may lie in the buffer: the writer gets its turn between them.
        tokio::task::consume_budget().await;
    }
}

async fn write_all(
    writer: &mut Writer,
    shared: &Shared,
    control: &ControlQueue,
    queue: &mut mpsc::UnboundedReceiver<Data>,
) -> PumpEnd {
    loop {
        // Waits for the first frame, then takes all that are ready.
        let mut data = tokio::select! {
            biased;
            () = shared.work.notified() => None,
            () = control.ready() => None,
            Some(data) = queue.recv() => Some(data),
        };
        loop {
            match data.take() {
                Some(Data::Close { code, reason }) => {
                    writer.push(&Frame::Close { code: Some(code), reason: reason.to_owned() });
                    return writer.flush(|_| ()).await.map_or_else(PumpEnd::Link, |()| PumpEnd::ClosedByUs);
                }
                Some(Data::Chunk { frame, bytes, lease, room: _room }) if lease.may_write() => {
                    writer.push_encoded(&frame);
                    lease.add_relayed(bytes);
                }
                Some(Data::Terminal(mut terminal)) if terminal.lease.begin_last_write() => {
                    writer.push(&terminal.frame());
                    // Before the peer can see the frame: a job that it sends in return finds the slot free.
                    (terminal.written)();
                }
                // Of a job that was cancelled or has ended: not a byte more.
                Some(Data::Chunk { .. } | Data::Terminal(_)) | None => {}
            }
            if writer.waiting() >= BATCH {
                // Whoever called may have called once for more than fits into this write.
                shared.work.notify_one();
                break;
            }
            if let Some(frame) = shared.next_frame().or_else(|| control.pop()) {
                writer.push(&frame);
                continue;
            }
            match queue.try_recv() {
                Ok(next) => data = Some(next),
                Err(_) => break,
            }
        }
        if let Err(end) = writer.flush(|taken| shared.taken(taken)).await {
            return PumpEnd::Link(end);
        }
    }
}

/// Pings, and notices silence.
async fn watch(shared: &Shared) -> LinkEnd {
    let mut next_ping = Instant::now() + PING_EVERY;
    loop {
        let dead_at = Instant::from_std(shared.liveness.get().dead_at());
        sleep_until(next_ping.min(dead_at)).await;
        let now = Instant::now();
        if shared.liveness.get().is_dead(now.into_std()) {
            return LinkEnd::Silence;
        }
        if now >= next_ping {
            next_ping = now + PING_EVERY;
            shared.ping.set(true);
            shared.work.notify_one();
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
