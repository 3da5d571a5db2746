//! Relays a streamed response to the job's stream as it is received.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::chunk::MAX_CHUNK;
use super::fault::{Fault, TOO_LARGE};
use super::run::Body;
use super::sender::ChunkSender;
use super::watch::Watch;
use crate::backends::BodyError;
use crate::core::formats::usage::Ending;
use crate::messages::wire::Tokens;

/// How long a body may go on after its end mark.
pub(super) const AFTER_THE_END: Duration = Duration::from_secs(1);
/// The transfer of one response.
pub(super) struct Transfer<'a> {
    watch: Watch,
    out: Out<'a>,
    /// Whether the body had any byte.
    any: bool,
}

/// The destination of the bytes.
struct Out<'a> {
    sender: ChunkSender<'a>,
    /// Bytes for which there was no room.
    waiting: BytesMut,
    /// Bytes appended since the last send.
    unsent: usize,
}

impl Out<'_> {
    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let taken = if self.waiting.is_empty() { self.sender.append(bytes) } else { 0 };
        self.unsent += bytes.len();
        self.waiting.extend_from_slice(bytes.get(taken..).unwrap_or_default());
    }

    /// Sends the appended bytes, and waits until all of them have found room.
    async fn send(&mut self) {
        self.sender.send();
        self.unsent = 0;
        while !self.waiting.is_empty() {
            self.sender.room().await;
            let taken = self.sender.append(&self.waiting);
            self.waiting.advance(taken);
            self.sender.send();
            if self.waiting.is_empty() {
                // Free the buffer while the stream waits.
                self.waiting = BytesMut::new();
            }
        }
    }
}

impl<'a> Transfer<'a> {
    pub(super) fn new(watch: Watch, sender: ChunkSender<'a>) -> Self {
        Self { watch, out: Out { sender, waiting: BytesMut::new(), unsent: 0 }, any: false }
    }

    /// Relays the body. Its last bytes are sent with the end of the job.
    pub(super) async fn run(mut self, mut body: Body) -> Result<Tokens, Fault> {
        // Set after the end mark: how long the body may go on.
        let mut limit = None::<Instant>;
        let broken = loop {
            let next = match limit {
                None => body.next().await,
                Some(limit) => tokio::select! {
                    biased;
                    next = body.next() => next,
                    () = sleep_until(limit) => break None,
                },
            };
            if let ControlFlow::Break(broken) = self.take(next, &mut body) {
                break broken;
            }
            self.out.send().await;
            if limit.is_none() && self.watch.is_over() {
                limit = Some(Instant::now() + AFTER_THE_END);
            }
        };
        let Self { watch, out, any } = &mut self;
        let has_cut_answer = watch.has_cut_answer();
        let ending = watch.finish(|bytes| out.append(bytes));
        if !out.waiting.is_empty() {
            out.send().await;
        }
        match (ending, broken) {
            (Ending::Complete { .. } | Ending::Truncated | Ending::Unread, _) if has_cut_answer => {
                Err(Fault::agent("a part of the backend's response contains its API key"))
            }
            (Ending::Complete { tokens }, _) => Ok(tokens),
            (Ending::Failed(fault), _) => Err(fault.into()),
            (Ending::Truncated | Ending::Unread, Some(error)) => Err(Fault::from(error).by_connection()),
            // Not the backend's fault: a bound of this program was exceeded.
            (Ending::Unread, None) => Err(Fault::agent(TOO_LARGE)),
            (Ending::Truncated, None) if !*any => {
                Err(Fault::backend("the backend's response is empty").by_connection())
            }
            (Ending::Truncated, None) => {
                Err(Fault::backend("the backend's response ended without its end mark").by_connection())
            }
        }
    }

    /// Handles the received bytes and all bytes that can be read without waiting, up to a full chunk, so that events that
    /// are available together share a frame.
    fn take(&mut self, first: Option<Result<Bytes, BodyError>>, body: &mut Body) -> ControlFlow<Option<BodyError>> {
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                None => return ControlFlow::Break(None),
                Some(Err(error)) => return ControlFlow::Break(Some(error)),
                Some(Ok(bytes)) => {
                    self.any |= !bytes.is_empty();
                    self.watch.pass(&bytes, |bytes| self.out.append(bytes));
                }
            }
            next = if self.out.unsent < MAX_CHUNK { body.next().now_or_never() } else { None };
        }
        ControlFlow::Continue(())
    }
}
