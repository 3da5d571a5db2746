//! An actor that records the messages that it receives, for tests of their senders.

use actix::prelude::*;
use tokio::sync::mpsc;

use super::within::within;

/// Records messages. They are awaited by the [`Recorded`] that comes with it.
pub struct Recorder<M>(mpsc::UnboundedSender<M>);

/// The messages that a recorder has received.
pub struct Recorded<M>(mpsc::UnboundedReceiver<M>);

impl<M: Message<Result = ()> + Send + Unpin + 'static> Recorder<M> {
    /// A recorder on the current arbiter, and its messages.
    #[expect(clippy::disallowed_methods, reason = "bounded by what one test sends")]
    pub fn start() -> (Recipient<M>, Recorded<M>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Actor::start(Self(sender)).recipient(), Recorded(receiver))
    }
}

impl<M: Unpin + 'static> Actor for Recorder<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Send + Unpin + 'static> Handler<M> for Recorder<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        // The test has seen enough and dropped its end.
        let _ = self.0.send(message);
    }
}

impl<M> Recorded<M> {
    /// The next message.
    pub async fn next(&mut self) -> M {
        let Some(message) = within("a message at the recorder", self.0.recv()).await else {
            panic!("the recorder is gone")
        };
        message
    }

    /// The messages that were not taken yet, without waiting.
    pub fn unread(&mut self) -> Vec<M> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}
