//! A job whose stream has begun, for tests that change its connection.

use outpost::messages::ids::JobId;
use outpost::testkit::{CoordinatorLink, Request, ScriptedBackend};

/// One event of the stream.
pub(crate) const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
/// Its end mark.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// A job whose backend has sent one event, which has arrived.
pub(crate) async fn half_done(backend: &ScriptedBackend, link: &mut CoordinatorLink) -> (JobId, Request) {
    let job = link.job("m", "{}");
    let request = backend.request().await;
    request.head();
    request.piece(TEXT);
    assert_eq!(link.chunk_of(job).await, TEXT.as_bytes());
    (job, request)
}

/// Ends the stream.
pub(crate) fn finish(request: &Request) {
    request.piece(DONE);
    request.end();
}
