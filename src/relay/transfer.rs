//! A streamed response on its way up, exactly as it came, while it comes.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::body::Body;
use super::chunk::MAX_CHUNK;
use super::fault::{Fault, TOO_LARGE};
use super::sender::ChunkSender;
use super::watch::Watch;
use crate::backends::BodyError;
use crate::core::formats::usage::Ending;
use crate::messages::wire::Tokens;

/// How long a body may go on after its end mark.
pub(super) const AFTER_THE_END: Duration = Duration::from_secs(1);
/// The response's way to the job's stream.
pub(super) struct Transfer<'a> {
    watch: Watch,
    out: Out<'a>,
    /// Whether the body had any byte.
    any: bool,
}

/// Where the bytes go.
struct Out<'a> {
    sender: ChunkSender<'a>,
    /// Bytes that found no room.
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

    /// Sends what was appended, and waits until all of it has found room.
    async fn send(&mut self) {
        self.sender.send();
        self.unsent = 0;
        while !self.waiting.is_empty() {
            self.sender.room().await;
            let taken = self.sender.append(&self.waiting);
            self.waiting.advance(taken);
            self.sender.send();
            if self.waiting.is_empty() {
                // A stream that waits holds no buffer.
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
        // How long the body may go on, once nothing that matters comes any more.
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
                Err(Fault::agent("a part of the backend's answer contains its API key"))
            }
            (Ending::Complete { tokens }, _) => Ok(tokens),
            (Ending::Failed(fault), _) => Err(fault.into()),
            (Ending::Truncated | Ending::Unread, Some(error)) => Err(Fault::from(error).by_connection()),
            // Not the backend's fault: the bound is this program's.
            (Ending::Unread, None) => Err(Fault::agent(TOO_LARGE)),
            (Ending::Truncated, None) if !*any => {
                Err(Fault::backend("the backend's response is empty").by_connection())
            }
            (Ending::Truncated, None) => {
                Err(Fault::backend("the backend's response ended without its end mark").by_connection())
            }
        }
    }

    /// Takes what was read, and all that can be read without waiting, up to a full chunk: events that are there together
    /// share a frame.
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
