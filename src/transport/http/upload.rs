//! The bytes of a request on their way out: head and body in pieces, as many in one write as there are. Reads nothing;
//! driven by `exchange`, and by `body` where the answer was faster.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Pieces in one write.
const AT_ONCE: usize = 16;

/// What is not written yet.
pub(super) struct Upload {
    left: VecDeque<Bytes>,
    has_written: bool,
    has_failed: bool,
}

impl Upload {
    pub(super) fn new(head: Bytes, body: Vec<Bytes>) -> Self {
        let left = std::iter::once(head).chain(body).filter(|piece| !piece.is_empty()).collect();
        Self { left, has_written: false, has_failed: false }
    }

    /// Whether any byte was written.
    pub(super) fn has_written(&self) -> bool {
        self.has_written
    }

    /// Whether the server took less than everything.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Writes what it can. Ready when nothing more can be written: either everything was, or the server takes no more. The
    /// reason is in its response, or in the lack of one.
    pub(super) fn poll<W: AsyncWrite + Unpin + ?Sized>(&mut self, stream: &mut W, cx: &mut Context<'_>) -> Poll<()> {
        let mut stream = Pin::new(stream);
        while !self.left.is_empty() {
            match ready!(self.poll_write(stream.as_mut(), cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    self.left = VecDeque::new();
                    self.has_failed = true;
                    return Poll::Ready(());
                }
            }
        }
        stream.poll_flush(cx).map(drop)
    }

    fn poll_write<W: AsyncWrite + ?Sized>(
        &mut self,
        stream: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        slices.iter_mut().zip(&self.left).for_each(|(slice, piece)| *slice = IoSlice::new(piece));
        let count = self.left.len().min(AT_ONCE);
        let written = ready!(stream.poll_write_vectored(cx, slices.get(..count).unwrap_or_default()))?;
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        self.has_written |= written > 0;
        while let Some(piece) = self.left.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.left.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn pieces_come_out_in_order_however_little_is_taken_at_once() {
        let long: Bytes = (0..100_007_u32).map(|i| (i % 251) as u8).collect();
        let mut pieces = vec![Bytes::from_static(b"{"), Bytes::new(), long.clone()];
        pieces.extend((0..40_u8).map(|i| Bytes::copy_from_slice(&[i; 3])));
        let expected = [b"head".to_vec(), pieces.concat()].concat();
        let mut upload = Upload::new(Bytes::from_static(b"head"), pieces);
        let (mut near, mut far) = tokio::io::duplex(7);
        let mut got = Vec::new();
        let send = async {
            poll_fn(|cx| upload.poll(&mut near, cx)).await;
            drop(near);
        };
        let (_, read) = tokio::join!(send, far.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, expected);
    }

    #[tokio::test]
    async fn a_server_that_takes_no_more_ends_it() {
        let (mut near, far) = tokio::io::duplex(7);
        drop(far);
        let mut upload = Upload::new(Bytes::from_static(b"longer than seven"), Vec::new());
        poll_fn(|cx| upload.poll(&mut near, cx)).await;
    }
}
