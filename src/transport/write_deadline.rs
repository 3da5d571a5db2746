//! A stream that fails when its peer takes no bytes for too long.
//!
//! The kernel's own limit, `TCP_USER_TIMEOUT`, does not cover that: a peer that reads nothing but goes on sending puts off the
//! kernel's probes of its full window, and with them the limit.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a write may wait, for the stream's owner to change.
#[derive(Clone)]
pub(crate) struct WriteLimit(Rc<Cell<Duration>>);

impl WriteLimit {
    /// Changes it. A write that waits already keeps the earlier one.
    pub(crate) fn set(&self, limit: Duration) {
        self.0.set(limit);
    }
}

/// A stream whose writes fail with [`io::ErrorKind::TimedOut`] once none has succeeded for a limit.
pub(crate) struct WriteDeadline<S, F> {
    stream: S,
    limit: WriteLimit,
    /// Called once, when the limit is reached.
    on_expiry: Option<F>,
    /// Runs while a write waits. Made with the first one.
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl<S: AsyncWrite + Unpin, F: FnOnce() + Unpin> WriteDeadline<S, F> {
    /// Puts a limit on the writes of a stream.
    pub(crate) fn new(stream: S, limit: Duration, on_expiry: F) -> Self {
        let limit = WriteLimit(Rc::new(Cell::new(limit)));
        Self { stream, limit, on_expiry: Some(on_expiry), timer: None, waits: false }
    }

    /// The limit.
    pub(crate) fn limit(&self) -> &WriteLimit {
        &self.limit
    }

    fn poll_write_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = write(Pin::new(&mut self.stream), cx) {
            self.waits = false;
            return Poll::Ready(result);
        }
        let limit = self.limit.0.get();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.waits {
            timer.as_mut().reset(Instant::now() + limit);
            self.waits = true;
        }
        ready!(timer.as_mut().poll(cx));
        if let Some(on_expiry) = self.on_expiry.take() {
            on_expiry();
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin, F: FnOnce() + Unpin> AsyncWrite for WriteDeadline<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for WriteDeadline<S, F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_write_fails_once_the_peer_has_taken_nothing_for_the_limit() {
        let (near, mut far) = duplex(4);
        let calls = Cell::new(0);
        let mut stream = WriteDeadline::new(near, LIMIT, || calls.set(calls.get() + 1));
        let began = Instant::now();
        // What the peer sends in the meantime does not count.
        far.write_all(b"ping").await.unwrap();
        let error = stream.write_all(b"12345").await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, LIMIT.as_secs()));
        assert!(stream.write_all(b"6").await.is_err());
        assert_eq!(calls.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_bytes_slowly_is_waited_for() {
        let (near, mut far) = duplex(4);
        let mut stream = WriteDeadline::new(near, LIMIT, || panic!("it takes bytes"));
        let reading = async {
            for _ in 0..10 {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                far.read_u8().await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(stream.write_all(&[7; 14]), reading);
        written.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_was_changed_holds_for_later_writes() {
        let (near, _far) = duplex(4);
        let mut stream = WriteDeadline::new(near, 10 * LIMIT, || {});
        stream.limit().set(LIMIT);
        let began = Instant::now();
        stream.write_all(b"12345").await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_stream_has_no_limit() {
        let (near, mut far) = duplex(4);
        let mut stream = WriteDeadline::new(near, LIMIT, || panic!("nothing waits"));
        stream.write_all(b"1234").await.unwrap();
        tokio::time::sleep(2 * LIMIT).await;
        far.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"5").await.unwrap();
    }
}
