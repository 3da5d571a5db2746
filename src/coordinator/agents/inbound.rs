//! Bounds the received bytes before they are frames, and the fragments before they are messages.
//!
//! actix-web-actors reads its stream until it is empty, decodes one frame, and reads again. So small frames arrive faster
//! than they are handled, and fill its buffer. It reports a frame that is too large only after all of it has arrived. It
//! does not consume a header that it refuses, and refuses it again at every poll. [`Metered`] is in front of it and returns
//! the bytes of one frame at a time, so that only one frame and one read of the socket wait for the codec. It ends the
//! stream at the first header that is not allowed, before the codec gets it. It also records when a byte arrived, which the
//! codec does not report while a large frame is incomplete.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::ws::Item;
use actix_web::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Instant;

use super::frame_scanner::{FrameScanner, HeaderError};

/// The state that the metered stream and its session share, on one thread.
pub(crate) struct Meter {
    /// Set by the session: the largest payload of a frame, in bytes.
    pub(crate) max_frame: Cell<usize>,
    /// Written by the stream: when the last byte arrived.
    pub(crate) last_byte: Cell<Instant>,
    /// Written by the stream: why it ended at a header, if it did.
    pub(crate) header_error: Cell<Option<HeaderError>>,
}

impl Meter {
    /// A meter that starts now.
    pub(crate) fn new(max_frame: usize) -> Rc<Self> {
        Rc::new(Self {
            max_frame: Cell::new(max_frame),
            last_byte: Cell::new(Instant::now()),
            header_error: Cell::new(None),
        })
    }
}

/// A stream of WebSocket bytes that returns one frame at a time, and ends at the first header that is not allowed.
pub(crate) struct Metered<S> {
    inner: S,
    meter: Rc<Meter>,
    scanner: FrameScanner,
    /// Bytes that were read from the socket and not yet returned.
    waiting: Bytes,
    /// The last returned bytes completed a frame. It must be decoded before more bytes are returned.
    frame_ended: bool,
}

impl<S> Metered<S> {
    /// Puts a meter in front of a stream.
    pub(crate) fn new(inner: S, meter: Rc<Meter>) -> Self {
        Self { inner, meter, scanner: FrameScanner::default(), waiting: Bytes::new(), frame_ended: false }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Metered<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.meter.header_error.get().is_some() {
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
        match this.scanner.next_span(&this.waiting, this.meter.max_frame.get() as u64) {
            Ok(span) => {
                this.frame_ended = span.ends_frame;
                Poll::Ready(Some(Ok(this.waiting.split_to(span.len))))
            }
            Err(header_error) => {
                this.meter.header_error.set(Some(header_error));
                this.waiting = Bytes::new();
                Poll::Ready(Some(Err(PayloadError::Overflow)))
            }
        }
    }
}

/// Why fragments can't be assembled into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FragmentError {
    /// The message is over the limit.
    #[error("message too large")]
    TooLarge,
    /// A continuation without a first fragment.
    #[error("a fragment without a first fragment")]
    OutOfOrder,
}

/// A message that was assembled from fragments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assembled {
    /// Text, not checked to be UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
}

/// Makes a message of its assembled bytes.
type Kind = fn(Bytes) -> Assembled;

/// Assembles fragmented messages.
#[derive(Default)]
pub(crate) struct Fragments {
    /// The kind of the current message, and its bytes so far.
    so_far: Option<(Kind, BytesMut)>,
}

impl Fragments {
    /// Adds a fragment. Returns the message after its last one.
    pub(crate) fn add(&mut self, item: Item, max: usize) -> Result<Option<Assembled>, FragmentError> {
        let (fragment, last) = match item {
            Item::FirstText(fragment) => {
                self.so_far = Some((Assembled::Text, BytesMut::new()));
                (fragment, false)
            }
            Item::FirstBinary(fragment) => {
                self.so_far = Some((Assembled::Binary, BytesMut::new()));
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

    /// Reads as actix-web-actors does, from a socket that has all its bytes at once: all returned bytes are buffered, then one
    /// frame is decoded.
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
    fn fragments_are_assembled_into_one_message_within_the_limit() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.add(Item::FirstText("ab".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Continue("c".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Last("de".into()), 5), Ok(Some(Assembled::Text("abcde".into()))));
        assert_eq!(fragments.add(Item::Last("f".into()), 5), Err(FragmentError::OutOfOrder));
        assert_eq!(fragments.add(Item::FirstBinary("ab".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Last("c".into()), 5), Ok(Some(Assembled::Binary("abc".into()))));
        assert_eq!(fragments.add(Item::FirstText("abc".into()), 5), Ok(None));
        assert_eq!(fragments.add(Item::Continue("def".into()), 5), Err(FragmentError::TooLarge));
    }
}
