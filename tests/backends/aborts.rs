//! How a server is asked to end a dropped request, if it may not notice the end of its connection.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt;
use outpost::internals::HttpBackendFactory;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::testkit::{Backend, BackendFactory, BackendKind, BackendRequest, client_config};
use serde::Deserialize;

use super::server::{Reply, Request, Server, response, within};

const CHAT: &str = "POST /v1/chat/completions";

/// What of a request names it.
#[derive(Debug, Deserialize, PartialEq)]
struct Named {
    rid: Option<String>,
    genkey: Option<String>,
}

fn named(request: &Request) -> Named {
    serde_json::from_slice(&request.body).unwrap()
}

fn client(server: &Server, kind: BackendKind) -> Rc<dyn Backend> {
    let tls = client_config(None).unwrap();
    HttpBackendFactory::new(BackendId::from("test"), kind, &server.url(), None, tls).open()
}

fn request(job: JobId, endpoint: Endpoint) -> BackendRequest {
    BackendRequest { job, endpoint, body: vec![Bytes::from_static(b"{\"rid\":\"theirs\"}")] }
}

/// Starts an answer and never ends it; anything but a job is answered at once.
fn endless(request: &Request) -> Reply {
    if request.line.starts_with("POST /v1/") {
        Reply::Hold(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n".to_vec())
    } else {
        response("200 OK", "", "")
    }
}

fn whole(_: &Request) -> Reply {
    response("200 OK", "", "whole")
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn sglang_is_sent_the_name_of_a_dropped_request() {
    let server = Server::start(endless).await;
    let job = JobId::random();
    let client = client(&server, BackendKind::SgLang);
    let mut answer = within(client.send(request(job, Endpoint::ChatCompletions))).await.unwrap();
    within(answer.body.next()).await.unwrap().unwrap();
    drop(answer);
    server.until_requests(2).await;
    let [sent, told] = &server.requests()[..] else { panic!("two requests") };
    assert_eq!(told.line, "POST /abort_request");
    let name = named(told).rid.unwrap();
    assert!(name.starts_with(job.as_str()), "{name}");
    assert!(String::from_utf8_lossy(&sent.body).ends_with(&format!(",\"rid\":\"{name}\"}}")));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn koboldcpp_is_sent_the_key_of_a_request_that_was_dropped_before_its_response() {
    let silent = |request: &Request| match request.line.as_str() {
        CHAT => Reply::Hold(vec![]),
        _ => response("200 OK", "", ""),
    };
    let server = Server::start(silent).await;
    let job = JobId::random();
    let client = client(&server, BackendKind::KoboldCpp);
    let mut sent = client.send(request(job, Endpoint::ChatCompletions));
    tokio::select! {
        _ = &mut sent => panic!("there is no answer"),
        () = server.until_requests(1) => {}
    }
    drop(sent);
    server.until_requests(2).await;
    let told = server.requests().pop().unwrap();
    assert_eq!(told.line, "POST /api/extra/abort");
    assert!(named(&told).genkey.unwrap().starts_with(job.as_str()));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn two_tries_of_a_job_have_two_names() {
    let server = Server::start(endless).await;
    let job = JobId::random();
    let client = client(&server, BackendKind::SgLang);
    for _ in 0..2 {
        drop(within(client.send(request(job, Endpoint::Completions))).await.unwrap());
    }
    server.until_requests(4).await;
    let requests = server.requests();
    let told: Vec<_> = requests.iter().filter(|request| request.line == "POST /abort_request").map(named).collect();
    assert_eq!(told.len(), 2);
    assert_ne!(told[0], told[1]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_ended_by_itself_is_not_ended_again() {
    let server = Server::start(|request| match request.line.as_str() {
        CHAT => whole(request),
        "POST /v1/completions" => response("400 Bad Request", "", "no"),
        _ => endless(request),
    })
    .await;
    let client = client(&server, BackendKind::SgLang);
    let mut answer = within(client.send(request(JobId::random(), Endpoint::ChatCompletions))).await.unwrap();
    while let Some(bytes) = within(answer.body.next()).await {
        bytes.unwrap();
    }
    drop(answer);
    drop(within(client.send(request(JobId::random(), Endpoint::Completions))).await.unwrap());
    // Had one of the two been told of, it would have come before this.
    drop(within(client.send(request(JobId::random(), Endpoint::Embeddings))).await.unwrap());
    server.until_requests(4).await;
    assert_eq!(server.asked("POST /abort_request"), 1);
    let name = named(&server.requests()[3]).rid.unwrap();
    assert!(String::from_utf8_lossy(&server.requests()[2].body).contains(&name));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_whose_connection_broke_is_ended() {
    let cut = |request: &Request| match request.line.as_str() {
        CHAT => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1234".to_vec()),
        _ => response("200 OK", "", ""),
    };
    let server = Server::start(cut).await;
    let client = client(&server, BackendKind::SgLang);
    let mut answer = within(client.send(request(JobId::random(), Endpoint::ChatCompletions))).await.unwrap();
    while within(answer.body.next()).await.is_some() {}
    drop(answer);
    server.until_requests(2).await;
    assert_eq!(server.asked("POST /abort_request"), 1);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn other_kinds_and_formats_without_a_place_for_a_name_are_sent_what_was_given() {
    for (kind, endpoint) in [
        (BackendKind::OpenAi, Endpoint::ChatCompletions),
        (BackendKind::Vllm, Endpoint::ChatCompletions),
        (BackendKind::SgLang, Endpoint::Messages),
        (BackendKind::KoboldCpp, Endpoint::Embeddings),
    ] {
        let server = Server::start(whole).await;
        within(client(&server, kind).send(request(JobId::random(), endpoint))).await.unwrap();
        assert_eq!(server.requests()[0].body, b"{\"rid\":\"theirs\"}", "{kind}");
    }
}
