//! Relays a streamed response byte for byte, as it arrives.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::body::Body;
use super::chunk::MAX_CHUNK;
use super::fault::{Fault, KEY_IN_ANSWER, TOO_LARGE};
use super::sender::ChunkSender;
use super::watch::Watch;
use crate::backends::BodyError;
use crate::core::formats::usage::Ending;
use crate::messages::wire::Tokens;

/// How long a body may go on after its end mark.
pub(super) const AFTER_THE_END: Duration = Duration::from_secs(1);
/// Bytes from which on nothing more is gathered for a frame: the next piece may have some KiB.
const ENOUGH: usize = MAX_CHUNK - 4 * 1024;
/// A buffer that is kept while the stream waits for bytes.
const KEPT: usize = 256;

/// The response's way to the job's stream.
pub(super) struct Transfer<'a> {
    watch: Watch,
    sender: ChunkSender<'a>,
    /// What was read and is not sent.
    buffer: Vec<u8>,
    /// Whether the body had any byte.
    any: bool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(watch: Watch, sender: ChunkSender<'a>) -> Self {
        Self { watch, sender, buffer: Vec::new(), any: false }
    }

    /// Relays the body. Its last bytes are sent with the end of the job.
    pub(super) async fn run(mut self, mut body: Body) -> Result<Tokens, Fault> {
        // How long the body may go on, once nothing that matters comes any more.
        let mut limit = None::<Instant>;
        let broken = loop {
            if limit.is_some_and(|limit| Instant::now() >= limit) {
                break None;
            }
            let next = match (body.next().now_or_never(), limit) {
                (Some(next), _) => next,
                (None, None) => {
                    // A stream that waits holds no buffer.
                    self.buffer.shrink_to(KEPT);
                    body.next().await
                }
                (None, Some(limit)) => tokio::select! {
                    biased;
                    next = body.next() => next,
                    () = sleep_until(limit) => break None,
                },
            };
            if let ControlFlow::Break(broken) = self.take(next, &mut body) {
                break broken;
            }
            self.send().await;
            if limit.is_none() && self.watch.is_over() {
                limit = Some(Instant::now() + AFTER_THE_END);
            }
        };
        let has_cut_answer = self.watch.has_cut_answer();
        let ending = self.watch.finish(|bytes| self.buffer.extend_from_slice(bytes));
        self.sender.send_but_last(&self.buffer).await;
        match (ending, broken) {
            (Ending::Complete { .. } | Ending::Truncated | Ending::Unread, _) if has_cut_answer => {
                Err(Fault::agent(KEY_IN_ANSWER))
            }
            (Ending::Complete { tokens }, _) => Ok(tokens),
            (Ending::Failed(fault), _) => Err(fault.into()),
            (Ending::Truncated | Ending::Unread, Some(error)) => Err(Fault::from(error).by_connection()),
            // Not the backend's fault: the bound is this program's.
            (Ending::Unread, None) => Err(Fault::agent(TOO_LARGE)),
            (Ending::Truncated, None) if !self.any => {
                Err(Fault::backend("the backend's response is empty").by_connection())
            }
            (Ending::Truncated, None) => {
                Err(Fault::backend("the backend's response ended without its end mark").by_connection())
            }
        }
    }

    /// Takes what was read, and what can be read without waiting, up to about a full frame: events that are there together
    /// share a frame.
    fn take(&mut self, first: Option<Result<Bytes, BodyError>>, body: &mut Body) -> ControlFlow<Option<BodyError>> {
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                None => return ControlFlow::Break(None),
                Some(Err(error)) => return ControlFlow::Break(Some(error)),
                Some(Ok(bytes)) => {
                    self.any |= !bytes.is_empty();
                    self.watch.pass(&bytes, |bytes| self.buffer.extend_from_slice(bytes));
                }
            }
            next = if self.buffer.len() < ENOUGH { body.next().now_or_never() } else { None };
        }
        ControlFlow::Continue(())
    }

    /// Sends what was read, as there is room for it.
    async fn send(&mut self) {
        if self.buffer.len() > MAX_CHUNK {
            for piece in std::mem::take(&mut self.buffer).chunks(MAX_CHUNK) {
                self.sender.send(&mut piece.to_vec()).await;
            }
        } else if !self.buffer.is_empty() {
            self.sender.send(&mut self.buffer).await;
        }
    }
}
