//! The buffer that all connections of a thread read into: a connection that waits has none of its own. Used by `exchange`
//! and `body`, each within one poll.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most that is read at once, in bytes.
const SIZE: usize = 64 * 1024;
/// A part of this length or more is split off the buffer; a shorter one is copied out, so that it does not keep the
/// buffer alive. In bytes.
const LARGE: usize = 8 * 1024;

thread_local! {
    static SHARED: RefCell<BytesMut> = RefCell::default();
}

/// Reads once and hands over what came. An empty buffer: the other side has closed.
pub(super) fn poll_read<R: AsyncRead + Unpin + ?Sized, T>(
    stream: &mut R,
    cx: &mut Context<'_>,
    take: impl FnOnce(&mut BytesMut) -> T,
) -> Poll<io::Result<T>> {
    SHARED.with_borrow_mut(|buffer| {
        buffer.clear();
        // Parts that were split off leave less. What they had comes back by this once they are dropped.
        if buffer.capacity() < SIZE / 2 {
            buffer.reserve(SIZE);
        }
        ready!(pin!(stream.read_buf(buffer)).poll(cx))?;
        Poll::Ready(Ok(take(buffer)))
    })
}

/// A part of what was read, to keep. The rest is gone.
pub(super) fn keep(buffer: &mut BytesMut, part: Range<usize>) -> Bytes {
    if part.len() < LARGE {
        return buffer.get(part).map(Bytes::copy_from_slice).unwrap_or_default();
    }
    let mut kept = buffer.split();
    kept.truncate(part.end);
    kept.advance(part.start);
    kept.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_as_it_was_whether_it_is_copied_or_split_off() {
        for size in [0, 1, LARGE - 1, LARGE, SIZE - 20] {
            let content: Vec<u8> = (0..size + 20).map(|i| (i % 251) as u8).collect();
            let mut buffer = BytesMut::with_capacity(SIZE);
            buffer.extend_from_slice(&content);
            let kept = keep(&mut buffer, 10..10 + size);
            buffer.clear();
            buffer.extend_from_slice(&[0xff; 64]);
            assert_eq!(kept, content[10..10 + size]);
        }
    }

    #[tokio::test]
    async fn the_buffer_comes_back_when_its_parts_are_dropped() {
        let content = vec![7; SIZE];
        let mut places = std::collections::HashSet::new();
        for _ in 0..20 {
            let kept = std::future::poll_fn(|cx| {
                poll_read(&mut &content[..], cx, |buffer| {
                    places.insert(buffer.as_ptr());
                    let length = buffer.len();
                    keep(buffer, 0..length)
                })
            });
            assert!(kept.await.unwrap().len() >= LARGE);
        }
        assert_eq!(places.len(), 1);
    }
}
