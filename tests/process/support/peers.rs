//! The peers of a process: the testkit's scripted coordinator and backend, over TCP.

use bytes::Bytes;
use outpost::messages::endpoint::{Endpoint, Endpoints};
use outpost::testkit::{CoordinatorLink, LinkFault, Reply, Request, ScriptedBackend, ScriptedCoordinator, answer};

/// The request of a job whose content does not matter.
pub(crate) const HELLO: &str = r#"{"messages":[{"role":"user","content":"hello"}]}"#;

pub(crate) async fn coordinator() -> ScriptedCoordinator {
    ScriptedCoordinator::listen().await.unwrap()
}

/// A backend of this model with chat completions alone. The test answers each request by hand.
pub(crate) async fn backend(model: &str) -> ScriptedBackend {
    backend_with(model, Endpoints::CHAT).await
}

/// The same with these endpoints.
pub(crate) async fn backend_with(model: &str, endpoints: Endpoints) -> ScriptedBackend {
    let backend = ScriptedBackend::new("openai", &[model]);
    backend.set_report(|report| report.models[0].endpoints = endpoints);
    backend.reply_always(Reply::ByHand);
    backend.listen().await.unwrap();
    backend
}

/// A backend's entry in the configuration; a name may be put before it.
pub(crate) fn entry(backend: &ScriptedBackend) -> String {
    format!("openai=http://{}", backend.addr())
}

/// An event with a piece of the response.
pub(crate) fn token(text: &str) -> Bytes {
    answer(Endpoint::ChatCompletions, text, 3, 5).swap_remove(0)
}

/// The events that complete a stream: 3 tokens in, 5 out.
pub(crate) fn last_events() -> Bytes {
    answer(Endpoint::ChatCompletions, "", 3, 5)[1..].concat().into()
}

/// Completes a stream.
pub(crate) fn finish(request: &Request) {
    request.piece(last_events());
    request.end();
}

/// Ends a connection with a reset: the agent sees no end of stream but an error.
pub(crate) fn reset(mut link: CoordinatorLink) {
    link.fail(LinkFault::Reset);
}

/// The code of the agent's close frame. `None`: it ended the connection without one.
pub(crate) async fn close_code(link: &mut CoordinatorLink) -> Option<u16> {
    link.ended().await.and_then(|(code, _)| code)
}
