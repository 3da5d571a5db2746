//! Servers that speak before they have heard the request out.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use outpost::internals::HttpBackendFactory;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::testkit::{BackendFactory, BackendKind, BackendRequest, BackendResponse, SendError, client_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::server::{Reply, Server, within};

/// More than the sockets of both sides hold.
const LONG: usize = 32 * 1024 * 1024;

/// Sends a long request to a server that does this with its connection.
async fn ask<F>(serve: impl FnOnce(TcpStream) -> F + 'static) -> Result<BackendResponse, SendError>
where
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::task::spawn_local(async move { serve(listener.accept().await.unwrap().0).await }.boxed_local());
    let backend = HttpBackendFactory::new(
        BackendId::from("test"),
        BackendKind::GENERIC,
        &url,
        None,
        client_config(None).unwrap(),
    )
    .open();
    let body = vec![Bytes::from_static(b"{"), vec![b' '; LONG].into(), Bytes::from_static(b"}")];
    within(backend.send(BackendRequest { job: JobId::random(), endpoint: Endpoint::ChatCompletions, body })).await
}

async fn text(response: BackendResponse) -> String {
    let pieces: Vec<_> = within(response.body.collect::<Vec<_>>()).await;
    String::from_utf8(pieces.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat()).unwrap()
}

/// Reads the start of a request and refuses it.
async fn refuse(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 100]).await.unwrap();
    stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 8\r\n\r\ntoo long").await.unwrap();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refusal_in_the_middle_of_the_request_is_the_answer() {
    let closes = ask(|mut stream| async move { refuse(&mut stream).await }).await.unwrap();
    assert_eq!((closes.status, text(closes).await), (413, "too long".to_owned()));
    let holds = ask(|mut stream| async move {
        refuse(&mut stream).await;
        std::future::pending::<()>().await;
    });
    let holds = holds.await.unwrap();
    assert_eq!((holds.status, text(holds).await), (413, "too long".to_owned()));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_leaves_in_the_middle_of_the_request_without_an_answer_broke_the_connection() {
    let left = ask(|mut stream| async move {
        stream.read_exact(&mut [0; 100]).await.unwrap();
    });
    assert_eq!(left.await.err(), Some(SendError::Broke));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_success_before_the_end_of_the_request_has_the_rest_of_it_sent() {
    let eager = ask(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b" }") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the rest of the request is missing");
        }
        assert!(request.len() > LONG);
        stream.write_all(b"2\r\nok\r\n0\r\n\r\n").await.unwrap();
    });
    assert_eq!(text(eager.await.unwrap()).await, "ok");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_interim_response_is_skipped() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::start(move |_| Reply::Bytes(answer.into())).await;
    let tls = client_config(None).unwrap();
    let backend =
        HttpBackendFactory::new(BackendId::from("test"), BackendKind::GENERIC, &server.url(), None, tls).open();
    let body = vec![Bytes::from_static(b"{}")];
    let sent = backend.send(BackendRequest { job: JobId::random(), endpoint: Endpoint::ChatCompletions, body });
    let response = within(sent).await.unwrap();
    assert_eq!((response.status, text(response).await), (200, "ok".to_owned()));
}
