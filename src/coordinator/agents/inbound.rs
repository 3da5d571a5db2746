//! The bytes of an agent before they are frames, and frames before they are messages: both bounded.
//!
//! actix-web-actors reads its stream until nothing is left, decodes one frame, and reads again. Small frames so come in
//! faster than they are handled and pile up in its buffer; a frame that is too large is reported once all of it is there;
//! and a header that it refuses stays where it is, to be refused again at every poll. [`Metered`] stands before it: it gives
//! out the bytes of one frame at a time, so that what waits for the codec is one frame and one piece of the socket's bytes,
//! and it ends the stream at the first header that is not allowed, which the codec never sees. It is also what sees a byte
//! arrive while a large frame is still incomplete.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::ws::Item;
use actix_web::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Instant;

use super::borders::{Borders, FrameFault};

/// What the metered stream and its session share. Both live on one thread.
pub(crate) struct Meter {
    /// Set by the session: the largest payload of a frame, in bytes.
    pub(crate) max_frame: Cell<usize>,
    /// Written by the stream: when the last byte came.
    pub(crate) last_byte: Cell<Instant>,
    /// Written by the stream: why it ended at a header, if it did.
    pub(crate) fault: Cell<Option<FrameFault>>,
}

impl Meter {
    /// A meter that starts now.
    pub(crate) fn new(max_frame: usize) -> Rc<Self> {
        Rc::new(Self { max_frame: Cell::new(max_frame), last_byte: Cell::new(Instant::now()), fault: Cell::new(None) })
    }
}

/// A stream of WebSocket bytes that gives out one frame at a time, and ends at the first header that is not allowed.
pub(crate) struct Metered<S> {
    inner: S,
    meter: Rc<Meter>,
    borders: Borders,
    /// What the socket gave and the codec has not been given.
    waiting: Bytes,
    /// The last bytes that were given out completed a frame, which is to be decoded before more is given out.
    frame_ended: bool,
}

impl<S> Metered<S> {
    /// Puts a meter before a stream.
    pub(crate) fn new(inner: S, meter: Rc<Meter>) -> Self {
        Self { inner, meter, borders: Borders::default(), waiting: Bytes::new(), frame_ended: false }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Metered<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.meter.fault.get().is_some() {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.frame_ended) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(bytes)) => self.waiting = bytes,
                end => return Poll::Ready(end),
            }
            self.meter.last_byte.set(Instant::now());
        }
        let this = &mut *self;
        match this.borders.next_span(&this.waiting, this.meter.max_frame.get() as u64) {
            Ok(span) => {
                this.frame_ended = span.ends;
                Poll::Ready(Some(Ok(this.waiting.split_to(span.len))))
            }
            Err(fault) => {
                this.meter.fault.set(Some(fault));
                this.waiting = Bytes::new();
                Poll::Ready(Some(Err(PayloadError::Overflow)))
            }
        }
    }
}

/// Why fragments make no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FragmentError {
    /// Together they are larger than a message may be.
    #[error("message too large")]
    TooLarge,
    /// One that goes on with nothing.
    #[error("a fragment of no message")]
    OutOfOrder,
}

/// A message that came in fragments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Text, not checked to be UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
}

/// What the fragments of a message will be together.
type Kind = fn(Bytes) -> Whole;

/// Puts fragmented messages together.
#[derive(Default)]
pub(crate) struct Fragments {
    /// What has come of a message, and what it will be.
    so_far: Option<(Kind, BytesMut)>,
}

impl Fragments {
    /// Takes a fragment; gives the message with its last one.
    pub(crate) fn add(&mut self, item: Item, max: usize) -> Result<Option<Whole>, FragmentError> {
        let (fragment, last) = match item {
            Item::FirstText(fragment) => {
                self.so_far = Some((Whole::Text, BytesMut::new()));
                (fragment, false)
            }
            Item::FirstBinary(fragment) => {
                self.so_far = Some((Whole::Binary, BytesMut::new()));
                (fragment, false)
            }
            Item::Continue(fragment) => (fragment, false),
            Item::Last(fragment) => (fragment, true),
        };
        let (_, so_far) = self.so_far.as_mut().ok_or(FragmentError::OutOfOrder)?;
        if so_far.len() + fragment.len() > max {
            return Err(FragmentError::TooLarge);
        }
        so_far.extend_from_slice(&fragment);
        let whole = if last { self.so_far.take() } else { None };
        Ok(whole.map(|(kind, bytes)| kind(bytes.freeze())))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use actix_codec::Decoder as _;
    use actix_http::ws::{Codec, Frame, ProtocolError};
    use futures_util::stream;

    use super::*;

    const PONG: [u8; 6] = [0x8a, 0x80, 1, 2, 3, 4];

    /// The reading of actix-web-actors over a socket that has all its bytes at once: whatever is given out is buffered,
    /// then one frame is decoded.
    struct Reading {
        metered: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>,
        codec: Codec,
        buffered: BytesMut,
    }

    impl Reading {
        fn new(pieces: Vec<Bytes>) -> Self {
            let pieces = stream::iter(pieces.into_iter().map(Ok));
            let metered = Metered::new(pieces, Meter::new(1 << 16));
            Self { metered: Box::pin(metered), codec: Codec::new(), buffered: BytesMut::new() }
        }

        /// The next frame or error. `None` at the end.
        fn next(&mut self) -> Option<Result<Frame, ProtocolError>> {
            let mut cx = Context::from_waker(Waker::noop());
            let ended = loop {
                match self.metered.as_mut().poll_next(&mut cx) {
                    Poll::Ready(Some(Ok(bytes))) => self.buffered.extend_from_slice(&bytes),
                    Poll::Ready(Some(Err(_))) => return Some(Err(ProtocolError::Overflow)),
                    Poll::Ready(None) => break true,
                    Poll::Pending => break false,
                }
            };
            let decoded = self.codec.decode(&mut self.buffered).transpose();
            assert!(decoded.is_some() || ended, "nothing to decode and nothing to wait for");
            decoded
        }
    }

    #[test]
    fn no_more_than_one_frame_waits_for_the_codec() {
        let pieces = PONG.repeat(1000);
        let mut reading = Reading::new(pieces.chunks(700).map(Bytes::copy_from_slice).collect());
        let mut frames = 0;
        while let Some(frame) = reading.next() {
            assert_eq!(frame.unwrap(), Frame::Pong(Bytes::new()));
            assert!(reading.buffered.is_empty(), "{} bytes", reading.buffered.len());
            frames += 1;
        }
        assert_eq!(frames, 1000);
    }

    #[test]
    fn a_bad_header_is_one_error_and_the_end() {
        let bad = [&PONG[..], &[0xf1, 0x80, 1, 2, 3, 4], &PONG].concat();
        for cut in 1..bad.len() {
            let mut reading = Reading::new(bad.chunks(cut).map(Bytes::copy_from_slice).collect());
            assert!(matches!(reading.next(), Some(Ok(Frame::Pong(_)))), "{cut}");
            assert!(matches!(reading.next(), Some(Err(_))), "{cut}");
            assert!(reading.next().is_none(), "{cut}");
        }
    }

    #[test]
    fn fragments_become_one_message_within_its_bound() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.add(Item::FirstText("ab".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Continue("c".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Last("de".into()), 5), Ok(Some(Whole::Text("abcde".into()))));
        assert_eq!(fragments.add(Item::Last("f".into()), 5), Err(FragmentError::OutOfOrder));
        assert_eq!(fragments.add(Item::FirstBinary("ab".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Last("c".into()), 5), Ok(Some(Whole::Binary("abc".into()))));
        assert_eq!(fragments.add(Item::FirstText("abc".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Continue("def".into()), 5), Err(FragmentError::TooLarge));
    }
}
