//! The body of a response, checked against what its head says. Knows nothing of the content; polled by the caller of the request.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::buffer::{keep, poll_read};
use super::error::HttpBodyError;
use super::framing::{Decoded, Framing, Progress};
use super::idle::IdleConnections;
use super::origin::Connection;
use super::upload::Upload;

/// A body as it arrives. An error is final. Its connection closes when it is dropped or ends, unless the end leaves the
/// connection fit for another request.
///
/// Early ends that it reports: a reset, invalid chunks or a missing last chunk, fewer bytes than `Content-Length`, and
/// over TLS a missing `close_notify`. Where only the close of a plain connection delimits a body, any close is its end:
/// then only the content's own end mark proves that it is complete.
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
    connection: Box<dyn Connection>,
    framing: Framing,
    /// What was read and is not decoded yet.
    ahead: BytesMut,
    /// What is not written yet of the request.
    upload: Option<Box<Upload>>,
    /// Where the connection goes after the last byte. `None`: it is closed.
    idle: Option<Rc<IdleConnections>>,
}

impl Body {
    pub(super) fn new(
        connection: Box<dyn Connection>,
        framing: Result<Framing, HttpBodyError>,
        ahead: Bytes,
        upload: Option<Box<Upload>>,
        idle: Option<Rc<IdleConnections>>,
    ) -> Self {
        let state = match framing {
            Ok(Framing::Length(0)) => {
                if let Some(idle) = idle.filter(|_| ahead.is_empty()) {
                    idle.put(connection);
                }
                State::Ended
            }
            Ok(framing) => State::Open(Open { connection, framing, ahead: ahead.into(), upload, idle }),
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
                Progress::End => self.end(),
                Progress::Surplus => self.state = State::Ended,
                Progress::Broken => self.state = State::Broken(HttpBodyError::Broken),
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl Body {
    /// The last byte was read, and none follows it.
    fn end(&mut self) {
        if let State::Open(Open { connection, idle: Some(idle), .. }) = std::mem::replace(&mut self.state, State::Ended)
        {
            idle.put(connection);
        }
    }
}

impl Open {
    /// Reads once. The data, which may be none, and how it goes on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Bytes, Progress)> {
        if self.upload.as_mut().is_some_and(|upload| upload.poll(&mut *self.connection, cx).is_ready()) {
            self.upload = None;
        }
        if !self.ahead.is_empty() {
            let mut ahead = std::mem::take(&mut self.ahead);
            return Poll::Ready(decoded(&mut self.framing, &mut ahead, &mut self.ahead));
        }
        let (framing, idle, ahead) = (&mut self.framing, &mut self.idle, &mut self.ahead);
        let read = poll_read(&mut *self.connection, cx, |buffer| {
            if buffer.is_empty() {
                *idle = None;
                return (Bytes::new(), framing.close());
            }
            decoded(framing, buffer, ahead)
        });
        Poll::Ready(ready!(read).unwrap_or((Bytes::new(), Progress::Broken)))
    }
}

/// The next data in the buffer. What is to be decoded behind it goes `ahead`.
fn decoded(framing: &mut Framing, buffer: &mut BytesMut, ahead: &mut BytesMut) -> (Bytes, Progress) {
    let Decoded { data, read, progress } = framing.decode(buffer);
    if progress == Progress::More && read < buffer.len() {
        *ahead = buffer.split_off(read);
    }
    (keep(buffer, data), progress)
}
