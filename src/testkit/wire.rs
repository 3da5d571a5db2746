//! Connections in memory: what the agent dials, and the faults of a network. Over TCP: `coordinator_listener`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::transport::stream::{DialError, UpgradeFault};
use crate::transport::websocket::link::{Connector, Upgraded};

/// The address that the agent dials.
pub const TARGET: &str = "coordinator.test:443";
/// The time limit of a dial, as of the real connector.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// What can go wrong with a dial.
#[derive(Clone, Debug, PartialEq)]
pub enum DialFault {
    /// No server listens.
    Refused,
    /// No answer: the dial ends at its own limit.
    Hangs,
    /// Any other error. Over TCP the response that causes it, if there is one; else the connection ends.
    Fails(DialError),
    /// Over TCP these bytes answer the upgrade, and then the connection ends. In memory, where there is no upgrade, it is
    /// one that fails.
    Answers(Bytes),
    /// The connector itself has a bug. Over TCP the connection ends.
    Panics,
}

/// Dials in memory. What it opens arrives at the scripted coordinator.
pub(super) struct MemoryConnector(pub(super) Rc<Network>);

/// What connector and coordinator share.
pub(super) struct Network {
    /// Faults of the next dials.
    pub(super) faults: RefCell<VecDeque<DialFault>>,
    /// The fault of every dial that has none of its own.
    pub(super) outage: RefCell<Option<DialFault>>,
    /// When was dialled.
    pub(super) dials: watch::Sender<Vec<Instant>>,
    /// Bytes that each direction of a connection holds.
    capacity: usize,
    pub(super) opened: mpsc::UnboundedSender<Opened>,
}

/// The coordinator's end of a new connection.
pub(super) struct Opened {
    pub(super) upgraded: Upgraded,
    pub(super) line: Line,
}

/// What can break a connection from the coordinator's end.
pub(super) enum Line {
    /// One in memory.
    Memory(Arc<Cut>),
    /// One over TCP, by its socket.
    Tcp(socket2::Socket),
    /// One that was reset.
    Gone,
}

impl Line {
    /// Ends the stream, without a close frame.
    pub(super) fn hang_up(&self) {
        if let Self::Tcp(socket) = self {
            // The agent may have ended it first.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Has reads and writes of the agent fail. Over TCP that takes effect when the stream is dropped.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Memory(cut) => cut.with(io::ErrorKind::ConnectionReset),
            Self::Tcp(socket) => {
                // The agent may have ended it first.
                let _ = socket.set_linger(Some(Duration::ZERO));
                *self = Self::Gone;
            }
            Self::Gone => {}
        }
    }
}

impl Network {
    #[expect(clippy::disallowed_methods, reason = "bounded by the dials of one test")]
    pub(super) fn new(capacity: usize) -> (Rc<Self>, mpsc::UnboundedReceiver<Opened>) {
        let (opened, arrivals) = mpsc::unbounded_channel();
        let (faults, outage, dials) = (RefCell::default(), RefCell::default(), watch::Sender::default());
        (Rc::new(Self { faults, outage, dials, capacity, opened }), arrivals)
    }

    /// Notes a dial, and takes its fault.
    pub(super) fn next_fault(&self) -> Option<DialFault> {
        self.dials.send_modify(|dials| dials.push(Instant::now()));
        self.faults.borrow_mut().pop_front().or_else(|| self.outage.borrow().clone())
    }

    fn open(&self) -> Result<Upgraded, DialError> {
        let (near, far) = tokio::io::duplex(self.capacity);
        let cut = Arc::new(Cut::default());
        let wire = Wire { stream: near, cut: Arc::clone(&cut) };
        self.opened
            .send(Opened {
                upgraded: Upgraded { stream: Box::new(far), leftover: BytesMut::new() },
                line: Line::Memory(cut),
            })
            .map_err(|_| DialError::Connect(io::ErrorKind::ConnectionRefused))?;
        Ok(Upgraded { stream: Box::new(wire), leftover: BytesMut::new() })
    }
}

impl Connector for MemoryConnector {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>> {
        let network = Rc::clone(&self.0);
        Box::pin(async move {
            match network.next_fault() {
                None => network.open(),
                Some(DialFault::Refused) => Err(DialError::Connect(io::ErrorKind::ConnectionRefused)),
                Some(DialFault::Fails(error)) => Err(error),
                Some(DialFault::Answers(_)) => Err(DialError::Upgrade(UpgradeFault::NotHttp)),
                Some(DialFault::Panics) => panic!("the connector panics, as the test wants it"),
                Some(DialFault::Hangs) => {
                    sleep(DIAL_LIMIT).await;
                    Err(DialError::TimedOut)
                }
            }
        })
    }

    fn target(&self) -> &str {
        TARGET
    }
}

/// Breaks an open connection.
#[derive(Default)]
pub(super) struct Cut(Mutex<CutState>);

#[derive(Default)]
struct CutState {
    error: Option<io::ErrorKind>,
    waiting: Vec<Waker>,
}

impl Cut {
    /// From now on every read and write fails like this.
    pub(super) fn with(&self, error: io::ErrorKind) {
        let mut state = self.lock();
        state.error = Some(error);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, CutState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.lock();
        match state.error {
            Some(kind) => Err(kind.into()),
            None => {
                if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    state.waiting.push(cx.waker().clone());
                }
                Ok(())
            }
        }
    }
}

/// The agent's end of a connection.
pub(super) struct Wire<S> {
    pub(super) stream: S,
    pub(super) cut: Arc<Cut>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cut.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.cut.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
