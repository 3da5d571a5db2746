//! One request and the head of its response, both ways at once. Knows bytes and the head only; driven by `request`.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::super::stream::Stream;
use super::body::Body;
use super::buffer;
use super::error::HttpError;
use super::head::{Head, HeadReader};
use super::upload::Upload;

/// A response whose body is to come. Dropping it closes its connection.
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
    /// Whether the server did what it was asked for.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Writes the request and waits for the head of the response, which may come before the request is written. Then a
/// success has the rest written while its body is read; after a refusal the server wants no more of it.
pub(super) async fn exchange(mut stream: Box<dyn Stream>, upload: Upload) -> Result<Response, HttpError> {
    let (mut upload, mut is_written) = (upload, false);
    let mut reader = HeadReader::default();
    let (head, ahead) = poll_fn(|cx| {
        is_written = is_written || upload.poll(&mut *stream, cx).is_ready();
        let lost = if upload.has_written() { HttpError::Broke } else { HttpError::Unreachable };
        poll_head(&mut *stream, &mut reader, lost, cx)
    })
    .await?;
    let Head { status, content_type, server, framing } = head;
    let upload = (!is_written && (200..300).contains(&status)).then(|| Box::new(upload));
    let body = Body::new(stream, framing, ahead, upload);
    Ok(Response { status, content_type, server, body })
}

/// `lost`: what it means if the connection is gone.
fn poll_head(
    stream: &mut dyn Stream,
    reader: &mut HeadReader,
    lost: HttpError,
    cx: &mut Context<'_>,
) -> Poll<Result<(Head, Bytes), HttpError>> {
    loop {
        let read = buffer::poll_read(stream, cx, |buffer| match buffer.as_ref() {
            [] => Err(lost),
            piece => reader.feed(piece),
        });
        match ready!(read) {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(whole))) => return Poll::Ready(Ok(whole)),
            Ok(Err(error)) => return Poll::Ready(Err(error)),
            Err(_) => return Poll::Ready(Err(lost)),
        }
    }
}
