//! An HTTP/1.1 server on a port of this host, in the test's own runtime. It answers each request with the bytes that the
//! test gives, well-formed or not: the recordings of real servers, and the documents by which they are identified. The
//! testkit's scripted backend plays one kind only, and has no raw bytes for probes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use outpost::testkit::HttpRequest as Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Ends a test that would wait for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened in time")
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// Writes these bytes and closes in order.
    Bytes(Vec<u8>),
    /// Writes these bytes and holds the connection until the client closes it.
    Hold(Vec<u8>),
    /// Writes the first bytes, then the second ones again and again until the client closes.
    Endless(Vec<u8>, Vec<u8>),
    /// Closes so that the client sees a reset.
    Reset,
}

/// A response in one piece.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes())
}

pub(crate) fn json(body: &str) -> Reply {
    response("200 OK", "content-type: application/json\r\n", body)
}

pub(crate) fn status(status: &str) -> Reply {
    response(status, "content-type: application/json\r\n", "{}")
}

/// A recorded response. Recordings lack the framing of chunks, and local paths in them were shortened: the framing is
/// made anew.
pub(crate) fn recorded(name: &str) -> Reply {
    Reply::Bytes(recording(name).0)
}

/// A recorded response with its framing, and its body alone.
pub(crate) fn recording(name: &str) -> (Vec<u8>, Vec<u8>) {
    let path = format!("{}/tests/transcripts/{name}.http", env!("CARGO_MANIFEST_DIR"));
    let raw = std::fs::read(path).unwrap();
    let end = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = raw.split_at(end);
    let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
    let head: String =
        std::str::from_utf8(head).unwrap().lines().filter(|line| !is_length(line)).fold(String::new(), |head, line| {
            match line {
                "" => head,
                line => head + line + "\r\n",
            }
        });
    let mut framed = head.clone().into_bytes();
    if head.contains("Transfer-Encoding: chunked") {
        framed.extend_from_slice(b"\r\n");
        for chunk in body.chunks(97) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
    } else {
        framed.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        framed.extend_from_slice(body);
    }
    (framed, body.to_vec())
}

type Script = dyn Fn(&Request) -> Reply;

#[derive(Default)]
struct Seen {
    connections: Cell<usize>,
    requests: RefCell<Vec<Request>>,
    /// Connections that the client closed while the server held them.
    left: Cell<usize>,
    changed: Notify,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Rc<Seen>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts on a free port.
    pub(crate) async fn start(script: impl Fn(&Request) -> Reply + 'static) -> Self {
        Self::start_at(0, script).await
    }

    /// Starts on a port that an earlier server had.
    pub(crate) async fn start_at(port: u16, script: impl Fn(&Request) -> Reply + 'static) -> Self {
        Self::listen(port, Rc::new(script))
    }

    fn listen(port: u16, script: Rc<Script>) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], port).into()).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Rc::new(Seen::default());
        let accepting = tokio::task::spawn_local(accept(listener, script, Rc::clone(&seen)));
        Self { port, seen, accepting }
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.get()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.borrow().clone()
    }

    /// How often this first line was asked.
    pub(crate) fn asked(&self, line: &str) -> usize {
        self.seen.requests.borrow().iter().filter(|request| request.line == line).count()
    }

    /// Waits until so many requests came in whole.
    pub(crate) async fn until_requests(&self, count: usize) {
        within(self.until(|seen| seen.requests.borrow().len() >= count)).await;
    }

    /// Waits until the client has closed so many connections that the server held.
    pub(crate) async fn until_left(&self, count: usize) {
        within(self.until(|seen| seen.left.get() >= count)).await;
    }

    async fn until(&self, reached: impl Fn(&Seen) -> bool) {
        while !reached(&self.seen) {
            self.seen.changed.notified().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, script: Rc<Script>, seen: Rc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.set(seen.connections.get() + 1);
        tokio::task::spawn_local(serve(stream, Rc::clone(&script), Rc::clone(&seen)));
    }
}

async fn serve(mut stream: TcpStream, script: Rc<Script>, seen: Rc<Seen>) {
    let Some(request) = Request::read(&mut stream).await else { return };
    let reply = script(&request);
    seen.requests.borrow_mut().push(request);
    seen.changed.notify_one();
    match reply {
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Hold(bytes) => {
            let _ = stream.write_all(&bytes).await;
            while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        }
        Reply::Endless(head, again) => {
            let _ = stream.write_all(&head).await;
            while stream.write_all(&again).await.is_ok() {}
        }
        Reply::Reset => {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        }
    }
    seen.left.set(seen.left.get() + 1);
    seen.changed.notify_one();
}
