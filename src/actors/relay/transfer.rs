//! A streamed response on its way up, exactly as it came, while it comes.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::Body;
use super::fault::{Fault, TOO_LARGE};
use super::sender::ChunkSender;
use super::watch::Watch;
use crate::backends::BodyError;
use crate::messages::wire::Tokens;
use crate::protocol::usage::Ending;
use crate::transport::uplink::{LinkGone, MAX_CHUNK, NotSent, Room};

/// How long a body may go on after its end mark.
pub(super) const AFTER_THE_END: Duration = Duration::from_secs(1);
/// The largest buffer that a stream keeps while nothing waits in it.
const KEPT_BUFFER: usize = 2 * 1024;

/// The response's way up.
pub(super) struct Transfer<'a> {
    sender: ChunkSender<'a>,
    watch: Watch,
    /// Bytes read and not sent: what was ready together, and what found no room.
    waiting: BytesMut,
    /// Whether the body had any byte.
    any: bool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(watch: Watch, sender: ChunkSender<'a>) -> Self {
        Self { sender, watch, waiting: BytesMut::new(), any: false }
    }

    pub(super) async fn run(mut self, mut body: Body) -> Result<Tokens, Fault> {
        // The place in the queue for room, kept while bytes join.
        let mut room = None::<LocalBoxFuture<'a, Result<Room, LinkGone>>>;
        // How long the body may go on, once nothing that matters comes any more.
        let mut limit = None::<Instant>;
        let broken = loop {
            let next = if self.waiting.is_empty() && limit.is_none() {
                body.next().await
            } else {
                tokio::select! {
                    biased;
                    // Made when it is polled: a branch that is off asks for no room.
                    granted = async { room.get_or_insert_with(|| self.sender.room()).await },
                        if !self.waiting.is_empty() =>
                    {
                        room = None;
                        self.send_into(granted?)?;
                        continue;
                    }
                    // A full chunk waits: the backend is held back.
                    next = body.next(), if self.waiting.len() < MAX_CHUNK => next,
                    () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => break None,
                }
            };
            match self.take(next, &mut body) {
                ControlFlow::Break(broken) => break broken,
                ControlFlow::Continue(()) if room.is_none() => self.send_ready()?,
                ControlFlow::Continue(()) => {}
            }
            if limit.is_none() && self.watch.is_over() {
                limit = Some(Instant::now() + AFTER_THE_END);
            }
        };
        drop(room);
        let has_cut_answer = self.watch.has_cut_answer();
        let ending = self.watch.finish(&mut self.waiting);
        self.send_ready()?;
        while !self.waiting.is_empty() {
            let room = self.sender.room().await?;
            self.send_into(room)?;
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
            (Ending::Truncated, None) if !self.any => {
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
                    self.watch.pass(&bytes, &mut self.waiting);
                }
            }
            next = if self.waiting.len() < MAX_CHUNK { body.next().now_or_never() } else { None };
        }
        ControlFlow::Continue(())
    }

    /// Sends what has room now; the rest waits.
    fn send_ready(&mut self) -> Result<(), LinkGone> {
        while !self.waiting.is_empty() {
            let piece = self.waiting.len().min(MAX_CHUNK);
            match self.sender.try_send(self.waiting.get(..piece).unwrap_or_default()) {
                Ok(()) => self.waiting.advance(piece),
                Err(NotSent::Full) => break,
                Err(NotSent::Gone(gone)) => return Err(gone),
            }
        }
        self.slim();
        Ok(())
    }

    /// Sends one chunk of what waits into room that was granted.
    fn send_into(&mut self, room: Room) -> Result<(), LinkGone> {
        let piece = self.waiting.len().min(MAX_CHUNK);
        self.sender.send_into(room, self.waiting.get(..piece).unwrap_or_default())?;
        self.waiting.advance(piece);
        self.slim();
        Ok(())
    }

    /// Gives a large buffer back: streams that are slow most of the time must not each keep that of their one burst.
    fn slim(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_BUFFER {
            self.waiting = BytesMut::new();
        }
    }
}
