//! Which connection a job's request is sent on: one that an earlier response left open, or a new one.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use outpost::internals::HttpBackendFactory;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::testkit::{
    Backend, BackendFactory, BackendKind, BackendRequest, BackendResponse, SendError, client_config,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::server::{Request, within};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno";

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Writes this and waits for the next request.
    Answer(&'static str),
    /// Writes this and closes.
    Last(&'static str),
    /// Writes the first text, and the second one when the test asks for it.
    Late(&'static str, &'static str),
}

/// What the server does with the n-th request of the n-th connection, both from 0.
type Script = fn(usize, usize) -> Act;

#[derive(Default)]
struct Seen {
    /// For each request, the connection that it came on.
    requests: RefCell<Vec<usize>>,
    accepted: Cell<usize>,
    /// Connections that the client closed.
    closed: Cell<usize>,
    changed: Notify,
    /// The test wants the second text.
    late: Notify,
    /// The second text was written.
    was_late: Notify,
}

struct Server {
    seen: Rc<Seen>,
    backend: Rc<dyn Backend>,
}

impl Server {
    async fn start(script: Script) -> Self {
        Self::start_for(usize::MAX, script).await
    }

    /// A server that accepts so many connections and then listens no more.
    async fn start_for(connections: usize, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: url::Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Rc::new(Seen::default());
        spawn_local({
            let seen = Rc::clone(&seen);
            async move {
                for _ in 0..connections {
                    let (stream, _) = listener.accept().await.unwrap();
                    spawn_local(serve(stream, script, Rc::clone(&seen)));
                }
            }
        });
        let factory = HttpBackendFactory::new(
            BackendId::from("b"),
            BackendKind::GENERIC,
            &url,
            None,
            client_config(None).unwrap(),
        );
        Self { seen, backend: factory.open() }
    }

    async fn start_tls(script: Script) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let mut authority = tempfile::NamedTempFile::new().unwrap();
        authority.write_all(made.cert.pem().as_bytes()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: url::Url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Rc::new(Seen::default());
        spawn_local({
            let seen = Rc::clone(&seen);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let stream = acceptor.accept(stream).await.unwrap();
                    spawn_local(serve(stream, script, Rc::clone(&seen)));
                }
            }
        });
        let config = client_config(Some(authority.path())).unwrap();
        let factory = HttpBackendFactory::new(BackendId::from("b"), BackendKind::GENERIC, &url, None, config);
        Self { seen, backend: factory.open() }
    }

    async fn send_body(&self, body: Bytes) -> Result<BackendResponse, SendError> {
        let request = BackendRequest { job: JobId::random(), endpoint: Endpoint::ChatCompletions, body: vec![body] };
        within(self.backend.send(request)).await
    }

    async fn send(&self) -> Result<BackendResponse, SendError> {
        self.send_body(Bytes::from_static(b"{}")).await
    }

    /// Sends a request and reads the whole response.
    async fn ask(&self) -> String {
        text(self.send().await.unwrap()).await
    }

    fn requests(&self) -> Vec<usize> {
        self.seen.requests.borrow().clone()
    }

    async fn until_closed(&self, count: usize) {
        while self.seen.closed.get() < count {
            self.seen.changed.notified().await;
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: Script, seen: Rc<Seen>) {
    let connection = seen.accepted.replace(seen.accepted.get() + 1);
    for nth in 0.. {
        if Request::read(&mut stream).await.is_none() {
            break;
        }
        seen.requests.borrow_mut().push(connection);
        let act = script(connection, nth);
        let (Act::Answer(answer) | Act::Last(answer) | Act::Late(answer, _)) = act;
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        match act {
            Act::Answer(_) => {}
            Act::Last(_) => return,
            Act::Late(_, more) => {
                seen.late.notified().await;
                let _ = stream.write_all(more.as_bytes()).await;
                seen.was_late.notify_one();
            }
        }
    }
    seen.closed.set(seen.closed.get() + 1);
    seen.changed.notify_one();
}

async fn text(response: BackendResponse) -> String {
    let pieces: Vec<_> = within(response.body.collect::<Vec<_>>()).await;
    String::from_utf8(pieces.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat()).unwrap()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn requests_after_one_another_use_one_connection() {
    let answers: Script = |_, nth| Act::Answer([OK, CHUNKED, EMPTY, OK][nth]);
    for server in [Server::start(answers).await, Server::start_tls(answers).await] {
        for expected in ["ok", "ok", "", "ok"] {
            assert_eq!(server.ask().await, expected);
        }
        assert_eq!(server.requests(), [0; 4]);
    }
}

/// A server that refuses a request may not have read its body.
#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_is_not_used_again_after_a_refusal() {
    let server = Server::start(|connection, _| Act::Answer([REFUSAL, OK][connection])).await;
    assert_eq!((server.ask().await, server.ask().await), ("no".to_owned(), "ok".to_owned()));
    assert_eq!(server.requests(), [0, 1]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn requests_at_the_same_time_use_a_connection_each() {
    let server = Server::start(|_, _| Act::Answer(OK)).await;
    let (first, second) = (server.send().await.unwrap(), server.send().await.unwrap());
    assert_eq!((text(first).await, text(second).await), ("ok".to_owned(), "ok".to_owned()));
    assert_eq!(server.requests(), [0, 1]);
    let (first, second) = (server.send().await.unwrap(), server.send().await.unwrap());
    assert_eq!((text(first).await, text(second).await), ("ok".to_owned(), "ok".to_owned()));
    assert_eq!(server.seen.accepted.get(), 2);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_announces_a_close_or_speaks_http_1_0_gets_a_new_connection() {
    let answers: [Script; 5] = [
        |_, _| Act::Answer("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"),
        |_, _| Act::Answer("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok"),
        |_, _| Act::Answer("HTTP/1.1 200 OK\r\nconnection: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"),
        |_, _| Act::Answer("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        |_, _| Act::Last("HTTP/1.1 200 OK\r\n\r\nok"),
    ];
    for script in answers {
        let server = Server::start(script).await;
        assert_eq!((server.ask().await, server.ask().await), ("ok".to_owned(), "ok".to_owned()));
        assert_eq!(server.requests(), [0, 1]);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_closes_after_each_response_receives_each_request_once() {
    let server = Server::start(|_, _| Act::Last(OK)).await;
    for _ in 0..4 {
        assert_eq!(server.ask().await, "ok");
    }
    assert_eq!(server.requests(), [0, 1, 2, 3]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_is_sent_again_when_the_server_closes_the_reused_connection_without_a_response() {
    let script: Script = |connection, nth| if (connection, nth) == (0, 1) { Act::Last("") } else { Act::Answer(OK) };
    for server in [Server::start(script).await, Server::start_tls(script).await] {
        assert_eq!((server.ask().await, server.ask().await), ("ok".to_owned(), "ok".to_owned()));
        assert_eq!(server.requests(), [0, 0, 1]);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_is_not_sent_again_when_a_new_connection_breaks() {
    let server = Server::start(|_, _| Act::Last("")).await;
    assert_eq!(server.send().await.err(), Some(SendError::Broke));
    assert_eq!(server.requests(), [0]);
    let script: Script = |connection, nth| if (connection, nth) == (0, 0) { Act::Answer(OK) } else { Act::Last("") };
    let server = Server::start(script).await;
    assert_eq!(server.ask().await, "ok");
    assert_eq!(server.send().await.err(), Some(SendError::Broke));
    assert_eq!(server.requests(), [0, 0, 1]);
}

/// It is evidence against the request, not a server that cannot be reached.
#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_is_gone_after_it_received_a_request_broke_under_it() {
    let server = Server::start_for(1, |_, nth| [Act::Answer(OK), Act::Last("")][nth]).await;
    assert_eq!(server.ask().await, "ok");
    assert_eq!(server.send().await.err(), Some(SendError::Broke));
    assert_eq!(server.requests(), [0, 0]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_is_not_sent_again_after_the_first_byte_of_a_response() {
    for script in [(|_, nth| if nth == 0 { Act::Answer(OK) } else { Act::Last("H") }) as Script, |_, nth| {
        if nth == 0 { Act::Answer(OK) } else { Act::Last("HTTP/1.1 100 Continue\r\n\r\n") }
    }] {
        let server = Server::start(script).await;
        assert_eq!(server.ask().await, "ok");
        assert_eq!(server.send().await.err(), Some(SendError::Broke));
        assert_eq!(server.requests(), [0, 0]);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_with_surplus_bytes_is_not_used_again() {
    let answers: [Script; 3] = [
        |_, _| Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"),
        |_, _| Act::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx"),
        |_, _| Act::Answer("HTTP/1.1 204 No Content\r\n\r\nx"),
    ];
    for script in answers {
        let server = Server::start(script).await;
        server.ask().await;
        server.ask().await;
        assert_eq!(server.requests(), [0, 1]);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_that_received_bytes_while_idle_is_not_used_again() {
    for server in [
        Server::start(|_, _| Act::Late(OK, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")).await,
        Server::start_tls(|_, _| Act::Late(OK, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")).await,
    ] {
        assert_eq!(server.ask().await, "ok");
        server.seen.late.notify_one();
        within(server.seen.was_late.notified()).await;
        assert_eq!(server.ask().await, "ok");
        assert_eq!(server.requests(), [0, 1]);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancelled_response_closes_its_connection() {
    let server =
        Server::start(|_, _| Act::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")).await;
    let mut response = server.send().await.unwrap();
    assert_eq!(within(response.body.next()).await.unwrap().unwrap(), "ok");
    drop(response);
    within(server.until_closed(1)).await;
    let _response = server.send().await.unwrap();
    assert_eq!(server.requests(), [0, 1]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_idle_connection_is_closed_after_a_second_without_another_request() {
    let server = Server::start(|_, _| Act::Answer(OK)).await;
    assert_eq!(server.ask().await, "ok");
    tokio::time::pause();
    let since = Instant::now();
    server.until_closed(1).await;
    let waited = since.elapsed();
    assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(2), "{waited:?}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn at_most_64_connections_are_kept() {
    let server = Server::start(|_, _| Act::Answer(OK)).await;
    let mut responses = Vec::new();
    for _ in 0..70 {
        responses.push(server.send().await.unwrap());
    }
    for response in responses {
        text(response).await;
    }
    // A paused clock advances only after the closed connections were seen.
    tokio::time::pause();
    server.until_closed(6).await;
    assert_eq!(server.seen.closed.get(), 6);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_long_request_has_a_connection_of_its_own() {
    let server = Server::start(|_, _| Act::Answer(OK)).await;
    assert_eq!(server.ask().await, "ok");
    assert_eq!(text(server.send_body(vec![b' '; 100_000].into()).await.unwrap()).await, "ok");
    assert_eq!(server.ask().await, "ok");
    assert_eq!(server.requests(), [0, 1, 0]);
}
