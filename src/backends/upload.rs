//! The body of a request: pieces sent one after the other, never joined. Polled by the HTTP client.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::protocol::request::body_len;

/// The client copies each piece into its write buffer: a longer one is handed over in parts of this size, in bytes.
const PART: usize = 64 * 1024;

/// Pieces of a body whose length is known.
pub(super) struct Pieces {
    left: VecDeque<Bytes>,
    length: u64,
}

impl Pieces {
    pub(super) fn new(pieces: Vec<Bytes>) -> Self {
        let length = body_len(&pieces) as u64;
        Self { left: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), length }
    }
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let part = match self.left.front_mut() {
            Some(piece) if piece.len() > PART => Some(piece.split_to(PART)),
            _ => self.left.pop_front(),
        };
        Poll::Ready(part.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn pieces_come_out_in_order_and_none_is_long() {
        let long: Bytes = (0..PART * 2 + 7).map(|i| (i % 251) as u8).collect();
        let mut body =
            Pieces::new(vec![Bytes::from_static(b"{"), Bytes::new(), long.clone(), Bytes::from_static(b"}")]);
        assert_eq!(body.size(), BodySize::Sized(long.len() as u64 + 2));
        let mut sent = Vec::new();
        while let Some(Ok(part)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).now_or_never().unwrap()
        {
            assert!((1..=PART).contains(&part.len()));
            sent.extend_from_slice(&part);
        }
        assert_eq!(sent, [b"{".as_slice(), &long, b"}"].concat());
    }
}
