//! One request and the head of its response, both ways at once. Knows bytes and the head only; driven by `request`.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::body::Body;
use super::buffer;
use super::error::HttpError;
use super::head::{Head, HeadReader};
use super::idle::IdleConnections;
use super::origin::Connection;
use super::upload::Upload;

/// A response whose body is to come. Dropping it before the end of the body closes its connection.
pub(crate) struct Response {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Content-Type` without its parameters, in lower case; empty where there is none.
    pub(crate) content_type: String,
    /// `Server` in lower case; empty where there is none.
    pub(crate) server: String,
    /// The body as it arrives.
    pub(crate) body: Body,
}

impl Response {
    /// Whether the status is that of a success.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why an exchange has no response.
pub(super) enum NoResponse {
    /// The connection ended before any byte of a response.
    Silent(HttpError),
    /// Anything else.
    Failed(HttpError),
}

impl From<NoResponse> for HttpError {
    fn from(none: NoResponse) -> Self {
        match none {
            NoResponse::Silent(error) | NoResponse::Failed(error) => error,
        }
    }
}

/// Writes the request and waits for the head of the response, which may come before the request is written. After a
/// success the rest is written while the body is read; after a refusal the server wants no more of it. `idle` takes the
/// connection after the response, if it can be used again.
pub(super) async fn exchange(
    mut connection: Box<dyn Connection>,
    mut upload: Upload,
    idle: Option<Rc<IdleConnections>>,
) -> Result<Response, NoResponse> {
    let mut is_written = false;
    let mut reader = HeadReader::default();
    let (head, ahead) = poll_fn(|cx| {
        is_written = is_written || upload.poll(&mut *connection, cx).is_ready();
        let lost = if upload.has_written() { HttpError::Broke } else { HttpError::Unreachable };
        poll_head(&mut *connection, &mut reader, lost, cx)
    })
    .await?;
    let Head { status, content_type, server, framing, keeps_alive } = head;
    let is_success = (200..300).contains(&status);
    // A server that refuses early may not have read the body: it would take it for the next request.
    let idle = idle.filter(|_| is_success && keeps_alive && is_written && !upload.has_failed());
    let upload = (!is_written && is_success).then(|| Box::new(upload));
    let body = Body::new(connection, framing, ahead, upload, idle);
    Ok(Response { status, content_type, server, body })
}

/// `lost`: the error if the connection has ended.
fn poll_head(
    connection: &mut dyn Connection,
    reader: &mut HeadReader,
    lost: HttpError,
    cx: &mut Context<'_>,
) -> Poll<Result<(Head, Bytes), NoResponse>> {
    loop {
        let lost = if reader.has_read() { NoResponse::Failed(lost) } else { NoResponse::Silent(lost) };
        let read = buffer::poll_read(connection, cx, |buffer| {
            let piece = buffer.as_ref();
            (!piece.is_empty()).then(|| reader.feed(piece))
        });
        match ready!(read) {
            Ok(Some(Ok(None))) => {}
            Ok(Some(Ok(Some(whole)))) => return Poll::Ready(Ok(whole)),
            Ok(Some(Err(error))) => return Poll::Ready(Err(NoResponse::Failed(error))),
            Ok(None) | Err(_) => return Poll::Ready(Err(lost)),
        }
    }
}
