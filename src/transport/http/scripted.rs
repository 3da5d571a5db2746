//! A response from bytes in memory, read by the client as from a connection. For the fuzzer.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::error::{HttpBodyError, HttpError};
use super::exchange::exchange;
use super::origin::Connection;
use super::upload::Upload;

/// What was read of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) server: String,
    pub(crate) body: Vec<u8>,
    /// Why the body ended early.
    pub(crate) error: Option<HttpBodyError>,
}

/// Reads the response of a server that takes a request, sends these pieces and closes.
pub(crate) fn respond(pieces: &[&[u8]]) -> Result<Read, HttpError> {
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let upload = Upload::new(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), Vec::new());
    let exchanged = async {
        let mut response = exchange(Box::new(Script(pieces)), upload, None).await?;
        let (mut body, mut error) = (Vec::new(), None);
        while let Some(piece) = response.body.next().await {
            assert_eq!(error, None, "nothing follows an error");
            match piece {
                Ok(piece) => body.extend_from_slice(&piece),
                Err(broken) => error = Some(broken),
            }
        }
        Ok(Read { status: response.status, content_type: response.content_type, server: response.server, body, error })
    };
    exchanged.now_or_never().expect("a script never waits")
}

/// The pieces that are still to be read.
struct Script(VecDeque<Bytes>);

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            buffer.put_slice(&piece.split_to(piece.len().min(buffer.remaining())));
            if !piece.is_empty() {
                self.0.push_front(piece);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for Script {
    fn tcp(&self) -> &TcpStream {
        unreachable!("only a connection that is used again is asked for its socket")
    }
}
