//! The body of a response, checked against what its head says. Knows nothing of the content; polled by whoever asked.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use awc::ClientResponse;
use awc::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use awc::http::{StatusCode, Version};
use bytes::Bytes;
use futures_util::Stream;

use super::BodyError;

/// A body as it arrives. Ends for good at its first error. Its connection closes when it ends or is dropped.
///
/// Early ends that it tells: a reset, chunks that are none, fewer bytes than `Content-Length`. A chunked body that is
/// cut by an orderly close just ends: only the content's own end mark proves that it is whole.
pub(super) struct Download {
    state: State,
}

enum State {
    /// `left`: bytes still to come, where the head says how many.
    Open {
        response: Box<ClientResponse>,
        left: Option<u64>,
    },
    Refused(BodyError),
    Ended,
}

impl Download {
    pub(super) fn new(response: ClientResponse) -> Self {
        let headers = response.headers();
        let state = if is_encoded(headers) {
            State::Refused(BodyError::Encoded)
        } else if is_lost(&response) {
            State::Refused(BodyError::Broken)
        } else {
            let left = if headers.contains_key(TRANSFER_ENCODING) { None } else { content_length(headers) };
            State::Open { response: Box::new(response), left }
        };
        Self { state }
    }
}

impl Stream for Download {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let outcome = match &mut self.state {
            State::Open { response, left } => match ready!(Pin::new(response).poll_next(cx)) {
                Some(Ok(bytes)) => {
                    if let Some(left) = left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Err(_)) => Some(Err(BodyError::Broken)),
                None if left.is_some_and(|left| left > 0) => Some(Err(BodyError::Broken)),
                None => None,
            },
            State::Refused(error) => Some(Err(*error)),
            State::Ended => None,
        };
        self.state = State::Ended;
        Poll::Ready(outcome)
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).any(|value| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    })
}

/// The client underneath reads no body of an HTTP/1.1 response that only the end of the connection delimits. For a
/// success that is a body lost, not an empty one.
fn is_lost(response: &ClientResponse) -> bool {
    let headers = response.headers();
    response.version() == Version::HTTP_11
        && response.status().is_success()
        && response.status() != StatusCode::NO_CONTENT
        && !headers.contains_key(CONTENT_LENGTH)
        && !headers.get(TRANSFER_ENCODING).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
