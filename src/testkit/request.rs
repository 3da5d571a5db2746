//! A request to a scripted backend, and its response while it lasts.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::http::header;
use super::reply::{Reply, StreamFault};
use super::within::within;
use crate::backends::{BackendResponse, BodyError, SendError};
use crate::messages::endpoint::Endpoint;

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// The agent holds the connection open.
    Open,
    /// The agent read the response to its end, or was refused.
    Finished,
    /// The agent closed the connection before the end: it cancelled.
    Dropped,
}

/// A request that was received. Cheap to clone.
#[derive(Clone)]
pub struct Request {
    /// The API path.
    pub endpoint: Endpoint,
    /// The body as the agent sent it.
    pub body: Bytes,
    /// The head, over TCP. In memory there is none.
    head: Arc<str>,
    state: watch::Receiver<RequestState>,
    taken: watch::Receiver<usize>,
    hand: mpsc::UnboundedSender<Step>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?}, {} bytes, {:?})", self.endpoint, self.body.len(), self.state())
    }
}

/// A step of a reply by hand.
pub(super) enum Step {
    Head { status: u16, content_type: String },
    Piece(Bytes),
    End,
    Break,
}

impl Request {
    /// Its state now.
    pub fn state(&self) -> RequestState {
        *self.state.borrow()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is not JSON: {error}"),
        }
    }

    /// A header's value. There are none in memory.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Waits until the agent has closed the connection before the end.
    pub async fn dropped(&mut self) {
        let state = within("the agent to drop a request", self.state.wait_for(|state| *state != RequestState::Open));
        assert_eq!(state.await.map(|state| *state).ok(), Some(RequestState::Dropped), "the request was finished");
    }

    /// Waits until the response has been read to its end.
    pub async fn finished(&mut self) {
        let state = within("the end of a request", self.state.wait_for(|state| *state != RequestState::Open));
        assert_eq!(state.await.map(|state| *state).ok(), Some(RequestState::Finished), "the agent dropped it");
    }

    /// Answers by hand: the head of an event stream.
    pub fn head(&self) {
        self.head_of(200, "text/event-stream");
    }

    /// Answers by hand: the head of any response.
    pub fn head_of(&self, status: u16, content_type: &str) {
        self.step(Step::Head { status, content_type: content_type.to_owned() });
    }

    /// Answers by hand: a whole response with a JSON body.
    pub fn respond(&self, status: u16, body: impl Into<Bytes>) {
        self.head_of(status, "application/json");
        self.piece(body);
        self.end();
    }

    /// Answers by hand: a piece of the body.
    pub fn piece(&self, bytes: impl Into<Bytes>) {
        self.step(Step::Piece(bytes.into()));
    }

    /// Waits until the agent has taken so many pieces given by hand.
    pub async fn taken(&mut self, pieces: usize) {
        let taken = within("the agent to read a response", self.taken.wait_for(|taken| *taken >= pieces)).await;
        assert!(taken.is_ok(), "the agent dropped the request");
    }

    /// Pieces given by hand that the agent has taken.
    pub fn pieces_taken(&self) -> usize {
        *self.taken.borrow()
    }

    /// Whether the agent takes another piece within such a time.
    pub async fn taken_within(&mut self, limit: Duration) -> bool {
        self.taken.mark_unchanged();
        timeout(limit, self.taken.changed()).await.is_ok()
    }

    /// Answers by hand: the end of the body.
    pub fn end(&self) {
        self.step(Step::End);
    }

    /// Answers by hand: the connection breaks.
    pub fn break_off(&self) {
        self.step(Step::Break);
    }

    fn step(&self, step: Step) {
        // An agent that has let go takes nothing: the test finds out by the state.
        let _ = self.hand.send(step);
    }
}

/// The backend's part of a request: dropped with the response.
pub(super) struct Running {
    state: watch::Sender<RequestState>,
    taken: watch::Sender<usize>,
    by_hand: mpsc::UnboundedReceiver<Step>,
    open: Arc<AtomicUsize>,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "bounded by what one test sends")]
    pub(super) fn start(endpoint: Endpoint, head: &str, body: Bytes, open: &Arc<AtomicUsize>) -> (Self, Request) {
        let (state, states) = watch::channel(RequestState::Open);
        let (hand, by_hand) = mpsc::unbounded_channel();
        open.fetch_add(1, Ordering::AcqRel);
        let (taken, pieces) = watch::channel(0);
        let running = Self { state, taken, by_hand, open: Arc::clone(open) };
        (running, Request { endpoint, body, head: head.into(), state: states, taken: pieces, hand })
    }

    pub(super) fn finish(&self) {
        self.state.send_replace(RequestState::Finished);
    }

    /// Waits as the reply says, and returns the reply that is due then.
    pub(super) async fn wait(mut reply: Reply) -> Reply {
        loop {
            reply = match reply {
                Reply::After(wait, then) => {
                    sleep(wait).await;
                    *then
                }
                Reply::Turns(turns, then) => {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    *then
                }
                due => return due,
            };
        }
    }

    /// Answers as the reply says.
    pub(super) async fn answer(mut self, reply: Reply) -> Result<BackendResponse, SendError> {
        let streams = "text/event-stream";
        match Self::wait(reply).await {
            Reply::Refuse => {
                self.finish();
                Err(SendError::Unreachable)
            }
            Reply::Break => {
                self.finish();
                Err(SendError::Broke)
            }
            Reply::Garble | Reply::Raw(_) => {
                self.finish();
                Err(SendError::Garbled)
            }
            Reply::Hang => std::future::pending().await,
            Reply::Panic => panic!("the backend's client panics, as the test wants it"),
            Reply::Stream(pieces) => Ok(self.respond(200, streams, pieces, None)),
            Reply::StreamThen(pieces, fault) => Ok(self.respond(200, streams, pieces, Some(fault))),
            Reply::Status(status, body) => Ok(self.respond(status, "application/json", vec![body], None)),
            Reply::Content(kind, body) => Ok(self.respond(200, kind, vec![body], None)),
            Reply::ByHand | Reply::Turns(..) | Reply::After(..) => match self.by_hand.recv().await {
                Some(Step::Head { status, content_type }) => {
                    let body = stream::unfold(self, Self::next_by_hand).boxed_local();
                    Ok(BackendResponse { status, content_type, body })
                }
                Some(Step::Break) => {
                    self.finish();
                    Err(SendError::Broke)
                }
                Some(Step::Piece(_) | Step::End) => panic!("a reply by hand starts with its head"),
                None => std::future::pending().await,
            },
        }
    }

    fn respond(self, status: u16, kind: &str, pieces: Vec<Bytes>, fault: Option<StreamFault>) -> BackendResponse {
        let script = (self, VecDeque::from(pieces), fault);
        let body: LocalBoxStream<'static, _> = stream::unfold(script, |(running, mut pieces, fault)| async move {
            let item = match (pieces.pop_front(), fault) {
                (Some(piece), _) => Ok(piece),
                (None, None | Some(StreamFault::Truncate)) => {
                    running.finish();
                    return None;
                }
                (None, Some(StreamFault::Break)) => {
                    running.finish();
                    Err(BodyError::Broken)
                }
                (None, Some(StreamFault::Stall)) => std::future::pending().await,
                (None, Some(StreamFault::Panic)) => {
                    // The pieces before it go up first.
                    tokio::task::yield_now().await;
                    panic!("the response's body panics, as the test wants it")
                }
            };
            Some((item, (running, pieces, fault)))
        })
        .boxed_local();
        BackendResponse { status, content_type: kind.to_owned(), body }
    }

    async fn next_by_hand(mut self) -> Option<(Result<Bytes, BodyError>, Self)> {
        match self.by_hand.recv().await {
            Some(Step::Piece(piece)) => {
                self.taken.send_modify(|taken| *taken += 1);
                Some((Ok(piece), self))
            }
            Some(Step::Break) => {
                self.finish();
                Some((Err(BodyError::Broken), self))
            }
            Some(Step::End) => {
                self.finish();
                None
            }
            Some(Step::Head { .. }) => panic!("a reply by hand has one head"),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.state.send_if_modified(|state| {
            let early = *state == RequestState::Open;
            if early {
                *state = RequestState::Dropped;
            }
            early
        });
    }
}
