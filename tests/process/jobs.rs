//! What reaches the backend of a job, and what of the answer reaches the coordinator: every byte, in order.

use std::time::Duration;

use outpost::messages::endpoint::{Endpoint, Endpoints};
use outpost::messages::wire::{ErrorCode, FromCoordinator, JobFrame};
use outpost::testkit::{CoordinatorLink, ScriptedBackend, ScriptedCoordinator, answer, job_frame};
use rand::{Rng, RngExt};
use serde_json::{Value, json};

use crate::support::{
    HELLO, Home, Outpost, agent, backend, backend_with, coordinator, entry, finish, last_events, reset, token,
};

struct Stage {
    link: CoordinatorLink,
    backend: ScriptedBackend,
    _process: Outpost,
    _coordinator: ScriptedCoordinator,
    _home: Home,
}

async fn stage(backend: ScriptedBackend) -> Stage {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let process = agent(&coordinator, &home, &entry(&backend)).start();
    let link = coordinator.serving("m").await;
    Stage { link, backend, _process: process, _coordinator: coordinator, _home: home }
}

/// A request of so many bytes whose prompt is spelled in a way of its own.
fn large_request(size: usize) -> String {
    let words = r#"a \u00e9\n\"quoted\" 世 "#;
    let text = words.repeat(size / words.len());
    format!(
        r#"{{ "stream" : false,"messages":[ {{"role":"user","content":"{text}"}} ],"model":"another", "temperature":1.0e-0,"seed":12345678901234567890123 }}"#
    )
}

/// Whether a body is the request but for what the agent sets.
fn assert_passed_on(body: &[u8], request: &str) {
    let prompt = &request[request.find("\"messages\":").unwrap()..request.find(",\"model\"").unwrap()];
    let body = std::str::from_utf8(body).unwrap();
    assert!(body.contains(prompt), "the prompt is passed on as it is spelled");
    assert!(body.contains(r#""temperature":1.0e-0,"seed":12345678901234567890123"#), "so are numbers");
    let settings = body.replacen(prompt, "\"messages\":[]", 1);
    let settings: Value = serde_json::from_str(&settings.replace(",\"seed\":12345678901234567890123", "")).unwrap();
    let expected = json!({
        "messages": [], "temperature": 1.0, "model": "m", "stream": true, "stream_options": {"include_usage": true}
    });
    assert_eq!(settings, expected);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_of_20_mb_reaches_the_backend_whole_in_one_frame() {
    let mut stage = stage(backend("m").await).await;
    let text = large_request(20_000_000);
    let job = stage.link.job("m", &text);
    let request = stage.backend.request().await;
    assert_eq!(request.endpoint, Endpoint::ChatCompletions);
    assert_passed_on(&request.body, &text);
    request.head();
    finish(&request);
    let trace = stage.link.outcome_of(job).await;
    trace.done();
    assert_eq!(trace.bytes, last_events());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_of_4_mb_reaches_the_backend_whole_in_100_fragments() {
    let mut stage = stage(backend("m").await).await;
    let text = large_request(4_000_000);
    let job = job_frame("m", text.clone());
    let frame = serde_json::to_string(&FromCoordinator::Job(job.clone())).unwrap();
    stage.link.send_fragmented(&frame, 100);
    let request = stage.backend.request().await;
    assert_passed_on(&request.body, &text);
    request.head();
    finish(&request);
    stage.link.outcome_of(job.job_id).await.done();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_bytes_of_the_response_arrive_unchanged_in_pieces_of_any_size() {
    let mut stage = stage(backend("m").await).await;
    let mut rng = rand::rng();
    let mut response = b": a comment\r\n\r\n".to_vec();
    for _ in 0..300 {
        let text: String =
            (0..rng.random_range(1..60)).map(|_| *choose(&mut rng, &['a', 'é', '世', '🦀', '"', '\\'])).collect();
        response.extend_from_slice(&token(&text));
    }
    // Not UTF-8, and passed on all the same.
    response.extend_from_slice(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n");
    response.extend_from_slice(&last_events());
    for largest in [1, 7, 400, 100_000] {
        let job = stage.link.job("m", HELLO);
        let request = stage.backend.request().await;
        request.head();
        let mut rest = &response[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.random_range(1..=largest).min(rest.len()));
            request.piece(piece.to_vec());
            rest = after;
        }
        request.end();
        let trace = stage.link.outcome_of(job).await;
        assert_eq!(trace.done().tokens.input, 3);
        assert!(trace.bytes == response, "in pieces of up to {largest} bytes");
    }
}

fn choose<'a, T>(rng: &mut impl Rng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_token_is_sent_before_the_next_one_is_made() {
    let mut stage = stage(backend("m").await).await;
    let job = stage.link.job("m", HELLO);
    let request = stage.backend.request().await;
    request.head();
    for number in 0..20 {
        let event = token(&number.to_string());
        request.piece(event.clone());
        assert_eq!(stage.link.chunk_of(job).await, event);
    }
    finish(&request);
    stage.link.outcome_of(job).await.done();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancel_closes_the_backends_connection_within_a_second() {
    let mut stage = stage(backend("m").await).await;
    let job = stage.link.job("m", HELLO);
    let mut request = stage.backend.request().await;
    request.head();
    request.piece(token("one"));
    stage.link.chunk_of(job).await;
    stage.link.cancel_and_silence(job).await;
    tokio::time::timeout(Duration::from_secs(1), request.dropped()).await.unwrap();
    let next = stage.link.job("m", HELLO);
    let request = stage.backend.request().await;
    request.head();
    finish(&request);
    stage.link.outcome_of(next).await.done();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancel_before_the_response_starts_closes_it_too() {
    let mut stage = stage(backend("m").await).await;
    let job = stage.link.job("m", HELLO);
    let mut request = stage.backend.request().await;
    stage.link.cancel_and_silence(job).await;
    tokio::time::timeout(Duration::from_secs(1), request.dropped()).await.unwrap();
    stage.link.ping(b"later").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_end_of_the_coordinators_connection_closes_the_backends() {
    let stage = stage(backend("m").await).await;
    stage.link.job("m", HELLO);
    let mut request = stage.backend.request().await;
    request.head();
    request.piece(token("one"));
    reset(stage.link);
    request.dropped().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_in_anthropics_format_goes_to_messages() {
    let mut stage = stage(backend_with("m", Endpoints::CHAT.with(Endpoint::Messages)).await).await;
    let text = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], "stream": false});
    let job = job_frame("m", text.to_string());
    let job = stage.link.send_job(&JobFrame { endpoint: Endpoint::Messages, ..job });
    let request = stage.backend.request().await;
    assert_eq!(request.endpoint, Endpoint::Messages);
    assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
    let mut expected = text;
    expected["stream"] = json!(true);
    expected["model"] = json!("m");
    assert_eq!(request.json(), expected);
    request.head();
    let events = answer(Endpoint::Messages, "hello", 11, 7).concat();
    request.piece(events.clone());
    request.end();
    let trace = stage.link.outcome_of(job).await;
    assert_eq!(trace.bytes, events);
    assert_eq!((trace.done().tokens.input, trace.done().tokens.output), (11, 7));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_in_a_format_that_the_backend_does_not_have_is_refused() {
    let mut stage = stage(backend("m").await).await;
    let job = stage.link.send_job(&JobFrame { endpoint: Endpoint::Messages, ..job_frame("m", "{}") });
    assert_eq!(stage.link.outcome_of(job).await.code(), ErrorCode::Internal);
    assert!(stage.backend.is_idle());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_deadline_ends_the_job_and_the_backends_connection() {
    let mut stage = stage(backend("m").await).await;
    let deadline = Duration::from_millis(300);
    let job = stage.link.send_job(&JobFrame { deadline, ..job_frame("m", HELLO) });
    let mut request = stage.backend.request().await;
    assert_eq!(stage.link.outcome_of(job).await.code(), ErrorCode::BackendTimeout);
    request.dropped().await;
}
