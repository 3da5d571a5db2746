//! Relays a streamed response byte for byte, as it arrives.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::body::Body;
use super::fault::{Fault, KEY_IN_ANSWER, TOO_LARGE};
use super::sender::ChunkSender;
use super::watch::Watch;
use crate::core::formats::usage::Ending;
use crate::messages::wire::Tokens;

/// How long a body may go on after its end mark.
pub(super) const AFTER_THE_END: Duration = Duration::from_secs(1);
/// The largest buffer that is kept while the stream waits for bytes.
const IDLE_CAPACITY: usize = 256;

/// The response's way to the job's stream.
pub(super) struct Transfer<'a> {
    watch: Watch,
    sender: ChunkSender<'a>,
    /// What was made of the bytes that were read last, where they are not sent as they came.
    made: BytesMut,
    /// Whether the body had any byte.
    any: bool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(watch: Watch, sender: ChunkSender<'a>) -> Self {
        Self { watch, sender, made: BytesMut::new(), any: false }
    }

    /// Relays the body. Bytes that can be read without waiting share a frame. The last ones are sent with the end of the job.
    pub(super) async fn run(mut self, mut body: Body) -> Result<Tokens, Fault> {
        // How long the body may go on, once nothing that matters comes any more.
        let mut limit = None::<Instant>;
        let broken = loop {
            if limit.is_some_and(|limit| Instant::now() >= limit) {
                break None;
            }
            let next = match body.next().now_or_never() {
                Some(next) => next,
                None => {
                    self.pause();
                    match limit {
                        None => body.next().await,
                        Some(limit) => tokio::select! {
                            biased;
                            next = body.next() => next,
                            () = sleep_until(limit) => break None,
                        },
                    }
                }
            };
            let bytes = match next {
                None => break None,
                Some(Err(error)) => break Some(error),
                Some(Ok(bytes)) => bytes,
            };
            self.any |= !bytes.is_empty();
            let passed = self.watch.pass(&bytes, &mut self.made);
            self.sender.note_events(self.watch.events());
            self.sender.append(passed).await;
            if limit.is_none() && self.watch.is_over() {
                limit = Some(Instant::now() + AFTER_THE_END);
            }
        };
        let has_cut_answer = self.watch.has_cut_answer();
        let ending = self.watch.finish(&mut self.made);
        self.sender.append(&self.made).await;
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

    /// Sends what there is, and frees memory: a stream that waits holds no large buffer.
    fn pause(&mut self) {
        self.sender.flush();
        if self.made.capacity() > IDLE_CAPACITY {
            self.made = BytesMut::new();
        }
    }
}
