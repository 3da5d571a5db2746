//! The body of a response, checked against what its head says. Knows nothing of the content; polled by whoever asked.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::super::stream::Stream;
use super::buffer::{keep, poll_read};
use super::error::HttpBodyError;
use super::framing::{Framing, Progress};
use super::upload::Upload;

/// A body as it arrives. Ends for good at its first error. Its connection closes when it ends or is dropped.
///
/// Early ends that it tells: a reset, chunks that are none or lack their last, fewer bytes than `Content-Length`, and
/// over TLS the lack of its own end. Where only the close of a plain connection delimits a body, any close is its end:
/// then nothing but the content's own end mark proves that it is whole.
///
/// A piece of 8 KiB or more keeps a buffer of 64 KiB alive; a shorter one is as large as it is.
pub(crate) struct Body {
    state: State,
}

enum State {
    Open(Open),
    Broken(HttpBodyError),
    Ended,
}

struct Open {
    stream: Box<dyn Stream>,
    framing: Framing,
    /// What came with the head and is not decoded yet.
    ahead: Bytes,
    /// What is not written yet of the request.
    upload: Option<Box<Upload>>,
}

impl Body {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        framing: Result<Framing, HttpBodyError>,
        ahead: Bytes,
        upload: Option<Box<Upload>>,
    ) -> Self {
        let state = match framing {
            Ok(Framing::Length(0)) => State::Ended,
            Ok(framing) => State::Open(Open { stream, framing, ahead, upload }),
            Err(error) => State::Broken(error),
        };
        Self { state }
    }
}

impl futures_util::Stream for Body {
    type Item = Result<Bytes, HttpBodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let open = match &mut self.state {
                State::Open(open) => open,
                State::Broken(error) => {
                    let error = *error;
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                State::Ended => return Poll::Ready(None),
            };
            let (data, progress) = ready!(open.poll(cx));
            match progress {
                Progress::More => {}
                Progress::End => self.state = State::Ended,
                Progress::Broken => self.state = State::Broken(HttpBodyError::Broken),
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl Open {
    /// Reads once. The data, which may be none, and how it goes on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Bytes, Progress)> {
        if self.upload.as_mut().is_some_and(|upload| upload.poll(&mut *self.stream, cx).is_ready()) {
            self.upload = None;
        }
        if !self.ahead.is_empty() {
            let mut ahead = BytesMut::from(std::mem::take(&mut self.ahead));
            return Poll::Ready(decoded(&mut self.framing, &mut ahead));
        }
        let framing = &mut self.framing;
        let read = poll_read(&mut *self.stream, cx, |buffer| {
            if buffer.is_empty() { (Bytes::new(), framing.close()) } else { decoded(framing, buffer) }
        });
        Poll::Ready(ready!(read).unwrap_or((Bytes::new(), Progress::Broken)))
    }
}

fn decoded(framing: &mut Framing, buffer: &mut BytesMut) -> (Bytes, Progress) {
    let (data, progress) = framing.decode(buffer);
    (keep(buffer, data), progress)
}
