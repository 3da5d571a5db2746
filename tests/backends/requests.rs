//! How a job's request reaches a server, and what becomes of each way in which the answer can go wrong.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use outpost::internals::HttpBackendFactory;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::testkit::{
    Backend, BackendFactory, BackendKind, BackendRequest, BackendResponse, BodyError, Secret, SendError, client_config,
};

use super::server::{Reply, Server, recording, response, within};

fn backend(url: &url::Url, key: Option<&str>) -> Rc<dyn Backend> {
    let tls = client_config(None).unwrap();
    HttpBackendFactory::new(BackendId::from("test"), BackendKind::GENERIC, url, key.map(Secret::new), tls).open()
}

fn request(endpoint: Endpoint, pieces: &[&'static str]) -> BackendRequest {
    BackendRequest {
        job: JobId::random(),
        endpoint,
        body: pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect(),
    }
}

async fn ask(server: &Server) -> Result<BackendResponse, SendError> {
    within(backend(&server.url(), None).send(request(Endpoint::ChatCompletions, &["{}"]))).await
}

/// The whole body, or the bytes before the error and the error.
async fn read(response: BackendResponse) -> (Vec<u8>, Option<BodyError>) {
    let mut body = response.body;
    let mut bytes = Vec::new();
    loop {
        match within(body.next()).await {
            Some(Ok(more)) => bytes.extend_from_slice(&more),
            Some(Err(error)) => {
                assert!(within(body.next()).await.is_none(), "an error is the end");
                return (bytes, Some(error));
            }
            None => return (bytes, None),
        }
    }
}

async fn outcome(reply: impl Fn() -> Reply + 'static) -> (Vec<u8>, Option<BodyError>) {
    let server = Server::start(move |_| reply()).await;
    read(ask(&server).await.unwrap()).await
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_pieces_of_a_body_arrive_as_one_with_their_length() {
    let server = Server::start(|_| response("200 OK", "", "")).await;
    let pieces = ["{\"model\":\"m\",", "", "\"messages\":[", "]}"];
    within(backend(&server.url(), None).send(request(Endpoint::ChatCompletions, &pieces))).await.unwrap();
    let got = &server.requests()[0];
    assert_eq!(got.line, "POST /v1/chat/completions");
    assert_eq!(got.body, pieces.concat().into_bytes());
    assert_eq!(got.header("content-length"), Some("27"));
    assert_eq!(got.header("transfer-encoding"), None);
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("accept-encoding"), Some("identity"));
    assert_eq!(got.header("connection"), None);
    assert_eq!(got.header("authorization"), None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_long_body_arrives_whole() {
    let server = Server::start(|_| response("200 OK", "", "")).await;
    let piece = Bytes::from(vec![b'x'; 3_000_000]);
    let body = vec![Bytes::from_static(b"\""), piece.clone(), piece.clone(), Bytes::from_static(b"\"")];
    let sent = BackendRequest { job: JobId::random(), endpoint: Endpoint::ChatCompletions, body };
    within(backend(&server.url(), None).send(sent)).await.unwrap();
    assert_eq!(server.requests()[0].body, [b"\"", &piece[..], &piece, b"\""].concat());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_key_goes_where_the_format_wants_it() {
    let server = Server::start(|_| response("200 OK", "", "")).await;
    let url = server.url().join("/prefix/v1").unwrap();
    let backend = backend(&url, Some("k"));
    within(backend.send(request(Endpoint::ChatCompletions, &["{}"]))).await.unwrap();
    within(backend.send(request(Endpoint::Messages, &["{}"]))).await.unwrap();
    let [openai, anthropic] = &server.requests()[..] else { panic!("two requests") };
    assert_eq!(openai.line, "POST /prefix/v1/chat/completions");
    assert_eq!(openai.header("authorization"), Some("Bearer k"));
    assert_eq!(openai.header("x-api-key"), None);
    assert_eq!(anthropic.line, "POST /prefix/v1/messages");
    assert_eq!(anthropic.header("authorization"), Some("Bearer k"));
    assert_eq!(anthropic.header("x-api-key"), Some("k"));
    assert_eq!(anthropic.header("anthropic-version"), Some("2023-06-01"));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_recorded_stream_is_passed_on_byte_for_byte() {
    for name in ["chat_stream_usage", "messages_stream"] {
        let (framed, body) = recording(&format!("llama-server-b11549/{name}"));
        let server = Server::start(move |_| Reply::Bytes(framed.clone())).await;
        let response = ask(&server).await.unwrap();
        assert_eq!((response.status, response.content_type.as_str()), (200, "text/event-stream"));
        assert_eq!(read(response).await, (body, None));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_content_type_has_no_parameters_and_no_capitals() {
    let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
    let server = Server::start(move |_| response("400 Bad Request", json, "{}")).await;
    let response = ask(&server).await.unwrap();
    assert_eq!((response.status, response.content_type.as_str()), (400, "application/json"));
    assert_eq!(read(response).await, (b"{}".to_vec(), None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_redirect_is_a_status_and_is_not_followed() {
    let elsewhere = Server::start(|_| response("200 OK", "", "")).await;
    let location = format!("location: {}v1/chat/completions\r\n", elsewhere.url());
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let location = location.clone();
        let server = Server::start(move |_| response(status, &location, "")).await;
        assert_eq!(ask(&server).await.unwrap().status.to_string(), status[..3]);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_encoding_that_was_not_requested_is_refused_at_once() {
    let held = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9\r\n\r\n".to_vec();
    assert_eq!(outcome(move || Reply::Hold(held.clone())).await, (vec![], Some(BodyError::Encoded)));
    let identity = || response("200 OK", "content-encoding: Identity\r\n", "plain");
    assert_eq!(outcome(identity).await, (b"plain".to_vec(), None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn fewer_bytes_than_announced_are_a_broken_body() {
    let short = || Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1234".to_vec());
    assert_eq!(outcome(short).await, (b"1234".to_vec(), Some(BodyError::Broken)));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_malformed_chunk_is_a_broken_body() {
    let bad = || Reply::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n".to_vec());
    let (bytes, error) = outcome(bad).await;
    assert_eq!((&bytes[..], error), (&b"ok"[..], Some(BodyError::Broken)));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_chunked_body_that_is_closed_before_its_last_chunk_is_broken() {
    let cut = || Reply::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n5\r\nwor".to_vec());
    let (bytes, error) = outcome(cut).await;
    assert_eq!((&bytes[..], error), (&b"okwor"[..], Some(BodyError::Broken)));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_body_that_only_the_close_delimits_is_read() {
    let new = || Reply::Bytes(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nbody".to_vec());
    assert_eq!(outcome(new).await, (b"body".to_vec(), None));
    let old = || Reply::Bytes(b"HTTP/1.0 200 OK\r\n\r\nbody".to_vec());
    assert_eq!(outcome(old).await, (b"body".to_vec(), None));
    let refusal = || Reply::Bytes(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\n\r\n".to_vec());
    assert_eq!(outcome(refusal).await, (vec![], None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_closed_port_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{free}").parse().unwrap();
    let sent = within(backend(&url, None).send(request(Endpoint::ChatCompletions, &["{}"]))).await;
    assert_eq!(sent.err(), Some(SendError::Unreachable));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_lost_between_request_and_head_is_broken_and_not_unreachable() {
    for reply in [|| Reply::Reset, || Reply::Bytes(vec![]), || Reply::Bytes(b"HTTP/1.1 200 OK\r\ncont".to_vec())] {
        let server = Server::start(move |_| reply()).await;
        assert_eq!(ask(&server).await.err(), Some(SendError::Broke));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_that_is_not_http_is_garbled() {
    for text in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n"] {
        let server = Server::start(move |_| Reply::Bytes(text.into())).await;
        assert_eq!(ask(&server).await.err(), Some(SendError::Garbled));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_head_without_end_is_garbled() {
    let server = Server::start(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n".repeat(100))).await;
    assert_eq!(ask(&server).await.err(), Some(SendError::Garbled));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn dropping_the_request_before_the_head_closes_the_connection() {
    let server = Server::start(|_| Reply::Hold(vec![])).await;
    let backend = backend(&server.url(), None);
    let mut sent = backend.send(request(Endpoint::ChatCompletions, &["{}"]));
    tokio::select! {
        _ = &mut sent => panic!("there is no answer"),
        () = server.until_requests(1) => {}
    }
    drop(sent);
    server.until_left(1).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn dropping_the_response_closes_the_connection() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    let server = Server::start(|_| Reply::Hold(head.to_vec())).await;
    let mut response = ask(&server).await.unwrap();
    assert_eq!(within(response.body.next()).await, Some(Ok(Bytes::from_static(b"ok"))));
    assert!(response.body.next().now_or_never().is_none(), "the server is silent");
    drop(response);
    server.until_left(1).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_has_more_requests_under_way_than_a_pool_would_let_it() {
    let server = Server::start(|_| Reply::Hold(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n".to_vec())).await;
    let backend = backend(&server.url(), None);
    let mut held = Vec::new();
    for _ in 0..120 {
        held.push(within(backend.send(request(Endpoint::ChatCompletions, &["{}"]))).await.unwrap());
    }
    assert_eq!(server.connections(), 120);
}
