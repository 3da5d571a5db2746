//! The bytes of an agent before they are frames, and frames before they are messages: both bounded.
//!
//! The WebSocket codec reports a frame that is too large only once all of it is in memory. [`Metered`] stands in front
//! of it, reads the headers as they pass and breaks the stream at the first one that announces too much. It is also what
//! sees a byte arrive while a large frame is still incomplete.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::ws::Item;
use actix_web::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Instant;

/// What the metered stream and its session share. Both live on one thread.
pub(super) struct Meter {
    /// Set by the session: the largest payload of a frame, in bytes.
    pub(super) max_frame: Cell<usize>,
    /// Written by the stream: when the last byte came.
    pub(super) last_byte: Cell<Instant>,
    /// Written by the stream: it ended because a frame announced more than `max_frame`.
    pub(super) oversize: Cell<bool>,
}

impl Meter {
    /// A meter that starts now.
    pub(super) fn new(max_frame: usize) -> Rc<Self> {
        Rc::new(Self {
            max_frame: Cell::new(max_frame),
            last_byte: Cell::new(Instant::now()),
            oversize: Cell::new(false),
        })
    }
}

/// A stream of WebSocket bytes that ends at the first frame that is too large.
pub(super) struct Metered<S> {
    inner: S,
    meter: Rc<Meter>,
    headers: Headers,
}

impl<S> Metered<S> {
    /// Puts a meter before a stream.
    pub(super) fn new(inner: S, meter: Rc<Meter>) -> Self {
        Self { inner, meter, headers: Headers::default() }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Metered<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.meter.oversize.get() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.inner).poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.meter.last_byte.set(Instant::now());
            let max = self.meter.max_frame.get() as u64;
            if self.headers.pass(bytes, max).is_err() {
                self.meter.oversize.set(true);
                return Poll::Ready(Some(Err(PayloadError::Overflow)));
            }
        }
        polled
    }
}

/// A frame announced more than it may have.
#[derive(Debug, PartialEq, Eq)]
struct TooLarge;

/// Follows frame borders through a stream of bytes (RFC 6455, section 5.2).
#[derive(Default)]
struct Headers {
    /// The header that is being read, 14 bytes at most.
    header: Vec<u8>,
    /// Payload bytes of the current frame that are still to come.
    payload: u64,
}

impl Headers {
    fn pass(&mut self, mut bytes: &[u8], max: u64) -> Result<(), TooLarge> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let here = self.payload.min(bytes.len() as u64);
                self.payload -= here;
                bytes = bytes.get(here as usize..).unwrap_or_default();
                continue;
            }
            self.header.push(first);
            bytes = rest;
            if let Some(length) = announced(&self.header) {
                if length > max {
                    return Err(TooLarge);
                }
                self.header.clear();
                self.payload = length;
            }
        }
        Ok(())
    }
}

/// The payload length that a header announces, once the header is complete with its mask.
fn announced(header: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = header else { return None };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (length, extended) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
        short => (u64::from(short), 0),
    };
    (rest.len() >= extended + mask).then_some(length)
}

/// Why fragments make no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FragmentError {
    /// Together they are larger than a message may be.
    #[error("message too large")]
    TooLarge,
    /// One that goes on with nothing.
    #[error("a fragment of no message")]
    OutOfOrder,
}

/// A message that came in fragments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// Text, not checked to be UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
}

/// What the fragments of a message will be together.
type Kind = fn(Bytes) -> Whole;

/// Puts fragmented messages together.
#[derive(Default)]
pub(super) struct Fragments {
    /// What has come of a message, and what it will be.
    so_far: Option<(Kind, BytesMut)>,
}

impl Fragments {
    /// Takes a fragment; gives the message with its last one.
    pub(super) fn add(&mut self, item: Item, max: usize) -> Result<Option<Whole>, FragmentError> {
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
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x81];
        match payload {
            0..126 => bytes.push(0x80 | payload as u8),
            126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        // A payload that looks like headers of huge frames.
        bytes.extend(vec![0xff; 4 + payload]);
        bytes
    }

    proptest! {
        #[test]
        fn borders_are_found_however_the_bytes_are_cut(
            sizes in prop::collection::vec(prop_oneof![0_usize..200, 65_530_usize..65_545], 1..6),
            cut in 1_usize..70_000,
        ) {
            let stream: Vec<u8> = sizes.iter().flat_map(|size| frame(*size)).collect();
            let max = sizes.iter().copied().max().unwrap_or_default();
            let run = |max: usize| {
                let mut headers = Headers::default();
                stream.chunks(cut).try_for_each(|piece| headers.pass(piece, max as u64))
            };
            prop_assert_eq!(run(max), Ok(()));
            if max > 0 {
                prop_assert_eq!(run(max - 1), Err(TooLarge));
            }
        }
    }

    #[test]
    fn a_huge_frame_is_refused_by_its_header_alone() {
        let mut headers = Headers::default();
        let header = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        assert_eq!(headers.pass(&header, 1 << 20), Err(TooLarge));
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
