//! Ends a request at the server by its name, for kinds that may go on when its connection closes. Closing the connection
//! stays the first means; this one is tried in addition. Driven by `client`.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{LocalBoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::BodyError;
use super::api::ApiClient;
use crate::core::json::with_member;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::JobId;

/// How long an abort request may take.
const TOLD: Duration = Duration::from_secs(2);
/// Names that wait to be sent. More are dropped: for them the closed connection has to be enough.
const WAITING: usize = 1024;
/// Abort requests at the same time.
const AT_ONCE: usize = 8;

/// How a kind of server is made to end a request.
pub(super) struct Abort {
    /// The member of a request that names it, and of the body that ends it.
    pub(super) member: &'static str,
    /// Where it is sent.
    pub(super) path: &'static str,
    /// The endpoints whose requests can have a name.
    pub(super) endpoints: &'static [Endpoint],
}

/// The abort requests of one thread to one server.
pub(super) struct Aborts {
    how: &'static Abort,
    names: mpsc::Sender<String>,
}

impl Aborts {
    /// Starts the task that sends them. It ends when this and every guard are gone and the last name was sent.
    pub(super) fn start(how: &'static Abort, api: ApiClient) -> Self {
        let (names, waiting) = mpsc::channel(WAITING);
        // A request is dropped where nothing can be awaited, often together with its actor: no owner is left then.
        #[allow(clippy::disallowed_methods)]
        actix_rt::spawn(tell(how, api, waiting));
        Self { how, names }
    }

    /// Gives a request a name, and a guard that has it ended when it is dropped. Nothing where the endpoint has no place
    /// for one.
    pub(super) fn watch(&self, job: JobId, endpoint: Endpoint, body: Vec<Bytes>) -> (Vec<Bytes>, Option<AbortGuard>) {
        if !self.how.endpoints.contains(&endpoint) {
            return (body, None);
        }
        // A retried job is another request.
        let name = format!("{job}-{}", TRIES.fetch_add(1, Ordering::Relaxed));
        match with_member(body, self.how.member, &name) {
            Ok(body) => (body, Some(AbortGuard { name: Some(name), names: self.names.clone() })),
            Err(body) => (body, None),
        }
    }
}

/// Distinguishes requests of the same job.
static TRIES: AtomicU64 = AtomicU64::new(0);

async fn tell(how: &'static Abort, api: ApiClient, names: mpsc::Receiver<String>) {
    let names = futures_util::stream::unfold(names, |mut names| async move { Some((names.recv().await?, names)) });
    names
        .for_each_concurrent(AT_ONCE, |name| {
            let body = with_member(vec![Bytes::from_static(b"{}")], how.member, &name).unwrap_or_default();
            let request = api.post_json(how.path);
            async move {
                // What it answers changes nothing.
                let _ = timeout(TOLD, request.send_body(body)).await;
            }
        })
        .await;
}

/// A request under way. Has it ended by the server when it is dropped.
pub(super) struct AbortGuard {
    name: Option<String>,
    names: mpsc::Sender<String>,
}

impl AbortGuard {
    /// The request is over.
    pub(super) fn disarm(mut self) {
        self.name = None;
    }
}

impl Drop for AbortGuard {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            let _ = self.names.try_send(name);
        }
    }
}

type Body = LocalBoxStream<'static, Result<Bytes, BodyError>>;

/// A body whose request is ended by the server unless it was read to its end.
pub(super) fn watched(body: Body, guard: Option<AbortGuard>) -> Body {
    match guard {
        Some(guard) => Watched { body, guard: Some(guard) }.boxed_local(),
        None => body,
    }
}

struct Watched {
    body: Body,
    guard: Option<AbortGuard>,
}

impl Stream for Watched {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.body.poll_next_unpin(cx);
        match &polled {
            Poll::Ready(None) => self.guard.take().into_iter().for_each(AbortGuard::disarm),
            // The connection broke, and the server may not know.
            Poll::Ready(Some(Err(_))) => self.guard = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}
