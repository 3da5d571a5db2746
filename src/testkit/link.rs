//! The coordinator's end of one connection: frames out, frames in, and faults.
//!
//! It always reads, as a real coordinator does, and keeps received frames until they are taken: a wait for one frame
//! skips others and leaves them. Pings are answered and a close is echoed, until the test says otherwise. What the frames
//! mean is in `dialogue`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::faults::Faults;
use super::grammar::Grammar;
use super::wire::{Line, Opened};
use super::within::within;
use crate::messages::wire::{Extensions, FromAgent, FromCoordinator};
use crate::transport::stream::Stream;
use crate::transport::websocket::codec::{Frame, FrameReader, Role, encode};

/// The largest message taken from an agent.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Ways in which a connection goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// The stream ends, without a close frame.
    HangUp,
    /// Reads and writes of the agent fail.
    Reset,
    /// Nothing more is read or answered: what the agent sends piles up.
    StopReading,
    /// Pings are read and not answered.
    IgnorePings,
}

/// One connection of the agent, as its coordinator has it.
pub struct CoordinatorLink {
    pub(super) grammar: Rc<Grammar>,
    /// The nonce of the last challenge, which `expect_auth` verifies against.
    pub nonce: Vec<u8>,
    /// What its challenges offer.
    pub(super) offer: Extensions,
    /// The `host:port` by which the agent reaches it.
    pub(super) name: String,
    faults: Faults,
    incoming: mpsc::UnboundedReceiver<Frame>,
    inbox: VecDeque<Frame>,
    out: Outgoing,
    reading: watch::Sender<bool>,
    line: Line,
    io: JoinSet<()>,
}

/// The way out, shared with the task that answers pings.
#[derive(Clone)]
struct Outgoing {
    queue: mpsc::UnboundedSender<BytesMut>,
    unsent: watch::Sender<usize>,
    answers_pings: Rc<Cell<bool>>,
    sent_close: Rc<Cell<bool>>,
}

impl Outgoing {
    fn bytes(&self, bytes: BytesMut) {
        self.unsent.send_modify(|unsent| *unsent += bytes.len());
        // The connection may be gone: then the test waits in vain for an answer.
        let _ = self.queue.send(bytes);
    }

    fn frame(&self, frame: &Frame) {
        if matches!(frame, Frame::Close { .. }) {
            self.sent_close.set(true);
        }
        let mut bytes = BytesMut::new();
        encode(&mut bytes, Role::Server, frame);
        self.bytes(bytes);
    }
}

impl CoordinatorLink {
    #[expect(clippy::disallowed_methods, reason = "bounded by what one test sends")]
    pub(super) fn open(opened: Opened, faults: Faults, offer: Extensions, name: String) -> Self {
        let (read, write) = tokio::io::split(opened.upgraded.stream);
        let (frames, incoming) = mpsc::unbounded_channel();
        let (queue, to_send) = mpsc::unbounded_channel();
        let (reading, may_read) = watch::channel(true);
        let answers_pings = Rc::new(Cell::new(true));
        let out = Outgoing { queue, unsent: watch::Sender::new(0), answers_pings, sent_close: Rc::default() };
        let grammar = Rc::new(Grammar::default());
        let reader = Reader { frames, out: out.clone(), grammar: Rc::clone(&grammar), faults: faults.clone() };
        let mut io = JoinSet::new();
        io.spawn_local(reader.run(read, opened.upgraded.leftover, may_read));
        io.spawn_local(write_all(write, to_send, out.unsent.clone()));
        let (nonce, inbox, line) = (Vec::new(), VecDeque::new(), opened.line);
        Self { grammar, nonce, offer, name, faults, incoming, inbox, out, reading, line, io }
    }

    /// Sends a message.
    pub fn send(&self, message: &FromCoordinator) {
        self.note(message);
        self.out.frame(&Frame::Text(json(message).into()));
    }

    /// Sends any text.
    pub fn send_text(&self, text: impl Into<Bytes>) {
        self.send_frame(&Frame::Text(text.into()));
    }

    /// Sends any frame.
    pub fn send_frame(&self, frame: &Frame) {
        if let Frame::Text(text) = frame {
            self.note_text(text);
        }
        self.out.frame(frame);
    }

    /// Sends a text in so many fragments.
    pub fn send_fragmented(&self, text: &str, pieces: usize) {
        self.note_text(&Bytes::copy_from_slice(text.as_bytes()));
        let size = text.len().div_ceil(pieces.max(1)).max(1);
        let last = text.len().div_ceil(size).saturating_sub(1);
        for (index, piece) in text.as_bytes().chunks(size).enumerate() {
            let mut bytes = BytesMut::new();
            encode(&mut bytes, Role::Server, &Frame::Text(Bytes::copy_from_slice(piece)));
            let opcode = if index == 0 { 1 } else { 0 };
            let fin = if index == last { 0x80 } else { 0 };
            if let Some(first) = bytes.first_mut() {
                *first = fin | opcode;
            }
            self.out.bytes(bytes);
        }
    }

    /// Sends bytes as they are, frames or not.
    pub fn send_raw_bytes(&self, bytes: &[u8]) {
        self.out.bytes(BytesMut::from(bytes));
    }

    /// Bytes that the agent has not taken yet.
    pub fn unsent(&self) -> usize {
        *self.out.unsent.borrow()
    }

    /// Waits until the agent, or the system, has taken all that was sent.
    pub async fn flushed(&self) {
        let mut unsent = self.out.unsent.subscribe();
        // The sender lives as long as the connection.
        let _ = within("room for what was sent", unsent.wait_for(|unsent| *unsent == 0)).await;
    }

    /// Sends a close frame. The agent's own is read as any frame.
    pub fn close(&self, code: Option<u16>, reason: &str) {
        self.send_frame(&Frame::Close { code, reason: reason.to_owned() });
    }

    /// Makes the connection go wrong.
    pub fn fail(&mut self, fault: LinkFault) {
        match fault {
            LinkFault::HangUp => {
                self.io.abort_all();
                self.line.hang_up();
            }
            LinkFault::Reset => {
                if let Line::Tcp(_) = self.line {
                    self.io.abort_all();
                }
                self.line.reset();
            }
            LinkFault::StopReading => {
                self.reading.send_replace(false);
            }
            LinkFault::IgnorePings => self.out.answers_pings.set(false),
        }
    }

    /// Reads again.
    pub fn resume_reading(&mut self) {
        self.reading.send_replace(true);
    }

    /// The next frame of any kind.
    pub async fn next_frame(&mut self) -> Frame {
        self.take("a frame", |frame| Some(frame.clone())).await
    }

    /// The next message.
    pub async fn next(&mut self) -> FromAgent {
        self.take_message("a message", Some).await
    }

    /// The first frame for which `wanted` has a value. Others stay for later.
    pub async fn take<T>(&mut self, what: impl Display + Copy, mut wanted: impl FnMut(&Frame) -> Option<T>) -> T {
        within(what, async {
            let mut seen = 0;
            loop {
                while let Some(frame) = self.inbox.get(seen) {
                    if let Some(value) = wanted(frame) {
                        self.inbox.remove(seen);
                        return value;
                    }
                    seen += 1;
                }
                let Some(frame) = self.incoming.recv().await else { panic!("the connection ended before {what} came") };
                self.faults.assert_none();
                self.inbox.push_back(frame);
            }
        })
        .await
    }

    /// The first message for which `wanted` has a value. Others stay for later.
    pub async fn take_message<T>(
        &mut self,
        what: impl Display + Copy,
        mut wanted: impl FnMut(FromAgent) -> Option<T>,
    ) -> T {
        self.take(what, |frame| wanted(message(frame)?)).await
    }

    /// All received frames that were not taken, without waiting.
    pub fn unread(&mut self) -> Vec<Frame> {
        while let Ok(frame) = self.incoming.try_recv() {
            self.inbox.push_back(frame);
        }
        self.faults.assert_none();
        self.inbox.drain(..).collect()
    }

    /// All received messages that were not taken, without waiting.
    pub fn unread_messages(&mut self) -> Vec<FromAgent> {
        self.unread().iter().filter_map(message).collect()
    }

    /// Waits until the agent has ended the connection: its close frame, if it sent one.
    pub async fn ended(&mut self) -> Option<(Option<u16>, String)> {
        within("the end of the connection", async {
            while let Some(frame) = self.incoming.recv().await {
                self.inbox.push_back(frame);
            }
        })
        .await;
        self.faults.assert_none();
        self.inbox.iter().find_map(|frame| match frame {
            Frame::Close { code, reason } => Some((*code, reason.clone())),
            _ => None,
        })
    }

    /// Notes a job or an offer: from now on the agent may send frames about it.
    fn note(&self, message: &FromCoordinator) {
        match message {
            FromCoordinator::Job(job) => self.grammar.sent(job.job_id),
            FromCoordinator::MalformedJob(job) => self.grammar.sent(job.job_id),
            FromCoordinator::AuthChallenge { extensions, .. } => self.grammar.offered(*extensions),
            _ => {}
        }
    }

    /// The same for a text, which may be any.
    fn note_text(&self, text: &Bytes) {
        if let Ok(message) = FromCoordinator::parse(text) {
            self.note(&message);
        }
    }
}

fn json(message: &impl Serialize) -> Vec<u8> {
    match serde_json::to_vec(message) {
        Ok(text) => text,
        Err(error) => panic!("the message can't be written: {error}"),
    }
}

/// The message in a text frame. Its form was checked when it was received.
pub(super) fn message(frame: &Frame) -> Option<FromAgent> {
    match frame {
        Frame::Text(text) => serde_json::from_slice(text).ok(),
        _ => None,
    }
}

struct Reader {
    frames: mpsc::UnboundedSender<Frame>,
    out: Outgoing,
    grammar: Rc<Grammar>,
    faults: Faults,
}

impl Reader {
    async fn run(self, mut stream: ReadHalf<Box<dyn Stream>>, leftover: BytesMut, mut may_read: watch::Receiver<bool>) {
        let mut reader = FrameReader::new(Role::Server, MAX_MESSAGE, leftover);
        loop {
            if may_read.wait_for(|may| *may).await.is_err() {
                return;
            }
            let read = tokio::select! {
                _ = may_read.wait_for(|may| !*may) => continue,
                read = stream.read_buf(reader.space()) => read,
            };
            if !matches!(read, Ok(1..)) {
                return;
            }
            loop {
                match reader.pop() {
                    Ok(Some(frame)) => self.take(frame),
                    Ok(None) => break,
                    Err(violation) => return self.faults.add(violation.to_string()),
                }
            }
        }
    }

    fn record(&self, checked: Result<(), String>) {
        if let Err(fault) = checked {
            self.faults.add(fault);
        }
    }

    fn take(&self, frame: Frame) {
        match &frame {
            Frame::Text(text) => self.record(self.grammar.check(text)),
            Frame::Binary(bytes) => self.record(self.grammar.check_binary(bytes)),
            Frame::Ping(payload) if self.out.answers_pings.get() => self.out.frame(&Frame::Pong(payload.clone())),
            Frame::Close { code, .. } if !self.out.sent_close.get() => {
                self.out.frame(&Frame::Close { code: *code, reason: String::new() });
            }
            Frame::Ping(_) | Frame::Pong(_) | Frame::Close { .. } => {}
        }
        // The test has dropped its end, so it no longer waits.
        let _ = self.frames.send(frame);
    }
}

async fn write_all(
    mut stream: WriteHalf<Box<dyn Stream>>,
    mut queue: mpsc::UnboundedReceiver<BytesMut>,
    unsent: watch::Sender<usize>,
) {
    while let Some(bytes) = queue.recv().await {
        let len = bytes.len();
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        unsent.send_modify(|unsent| *unsent -= len);
    }
}
