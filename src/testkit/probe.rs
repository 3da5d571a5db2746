//! An actor that records the messages it gets, for tests of whatever sends them.

use actix::prelude::*;
use tokio::sync::mpsc;

use super::patience::within;

/// Records messages. They are awaited by the [`Recorded`] that comes with it.
pub struct Probe<M>(mpsc::UnboundedSender<M>);

/// What a probe has got.
pub struct Recorded<M>(mpsc::UnboundedReceiver<M>);

impl<M: Message<Result = ()> + Send + Unpin + 'static> Probe<M> {
    /// A probe on the current arbiter: where to send to, and what it gets.
    #[expect(clippy::disallowed_methods, reason = "bounded by what one test sends")]
    pub fn start() -> (Recipient<M>, Recorded<M>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Actor::start(Self(sender)).recipient(), Recorded(receiver))
    }
}

impl<M: Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Send + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        // The test has seen enough and dropped its end.
        let _ = self.0.send(message);
    }
}

impl<M> Recorded<M> {
    /// The next message.
    pub async fn next(&mut self) -> M {
        let Some(message) = within("a message at the probe", self.0.recv()).await else { panic!("the probe is gone") };
        message
    }

    /// The messages that came and were not asked for, without waiting.
    pub fn unread(&mut self) -> Vec<M> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}
