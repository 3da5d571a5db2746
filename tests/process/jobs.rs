//! What reaches the backend of a job, and what of the answer reaches the coordinator: every byte, in order.

use bytes::{BufMut, BytesMut};
use outpost::messages::wire::ErrorCode;
use rand::{Rng, RngExt};
use serde_json::{Value, json};

use crate::support::{Backend, Coordinator, Home, LAST_EVENTS, Outpost, Session, agent, job_with, token, within};

struct Stage {
    session: Session,
    backend: Backend,
    _process: Outpost,
    _coordinator: Coordinator,
    _home: Home,
}

async fn stage(backend: Backend) -> Stage {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let process = agent(&coordinator, &home, &backend.entry()).start();
    let session = coordinator.serving("m").await;
    Stage { session, backend, _process: process, _coordinator: coordinator, _home: home }
}

/// A request of 20 MB whose prompt is spelled in a way of its own.
fn large_request() -> String {
    let words = r#"a \u00e9\n\"quoted\" 世 "#;
    let text = words.repeat(20_000_000 / words.len());
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

#[tokio::test]
async fn a_job_of_20_mb_reaches_the_backend_whole_in_one_frame() {
    let mut stage = stage(Backend::start("m").await).await;
    let request = large_request();
    let (id, frame) = job_with("m", &request);
    stage.session.send(&frame).await;
    let mut exchange = stage.backend.request().await;
    assert_eq!(exchange.line, "POST /v1/chat/completions");
    assert_passed_on(&exchange.body, &request);
    exchange.open_stream().await;
    exchange.finish().await;
    let (bytes, end) = stage.session.rest(id).await;
    end.done();
    assert_eq!(bytes, LAST_EVENTS.as_bytes());
}

#[tokio::test]
async fn a_job_of_20_mb_reaches_the_backend_whole_in_100_fragments() {
    let mut stage = stage(Backend::start("m").await).await;
    let request = large_request();
    let (id, frame) = job_with("m", &request);
    let pieces: Vec<&[u8]> = frame.as_bytes().chunks(frame.len().div_ceil(100)).collect();
    assert_eq!(pieces.len(), 100);
    for (index, piece) in pieces.iter().enumerate() {
        let (first, last) = (index == 0, index == 99);
        let mut fragment = BytesMut::new();
        fragment.put_u8(if last { 0x80 } else { 0 } | u8::from(first));
        fragment.put_u8(127);
        fragment.put_u64(piece.len() as u64);
        fragment.put_slice(piece);
        stage.session.send_raw(&fragment).await;
        if index == 50 {
            // A control frame may stand between fragments.
            stage.session.settle().await;
        }
    }
    let mut exchange = stage.backend.request().await;
    assert_passed_on(&exchange.body, &request);
    exchange.open_stream().await;
    exchange.finish().await;
    stage.session.rest(id).await.1.done();
}

#[tokio::test]
async fn the_bytes_of_the_response_arrive_as_they_are_whatever_their_pieces() {
    let mut stage = stage(Backend::start("m").await).await;
    let mut rng = rand::rng();
    let mut answer = String::from(": a comment\r\n\r\n");
    for _ in 0..300 {
        let text: String =
            (0..rng.random_range(1..60)).map(|_| *choose(&mut rng, &['a', 'é', '世', '🦀', '"', '\\'])).collect();
        answer.push_str(&token(&text));
    }
    let mut answer = answer.into_bytes();
    // Not UTF-8, and passed on all the same.
    answer.extend_from_slice(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n");
    answer.extend_from_slice(LAST_EVENTS.as_bytes());
    for largest in [1, 7, 400, 100_000] {
        let (id, frame) = job_with("m", r#"{"messages":[]}"#);
        stage.session.send(&frame).await;
        let mut exchange = stage.backend.request().await;
        exchange.open_stream().await;
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.random_range(1..=largest).min(rest.len()));
            exchange.send(piece).await;
            rest = after;
        }
        exchange.raw(b"0\r\n\r\n").await;
        let (bytes, end) = stage.session.rest(id).await;
        assert_eq!(end.done().tokens.input, 3);
        assert!(bytes == answer, "in pieces of up to {largest} bytes");
    }
}

fn choose<'a, T>(rng: &mut impl Rng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

#[tokio::test]
async fn a_token_goes_up_before_the_next_one_is_made() {
    let mut stage = stage(Backend::start("m").await).await;
    let id = stage.session.start_job("m").await;
    let mut exchange = stage.backend.request().await;
    exchange.open_stream().await;
    for number in 0..20 {
        let event = token(&number.to_string());
        exchange.send(&event).await;
        assert_eq!(stage.session.chunk(id).await, event.as_bytes());
    }
    exchange.finish().await;
    stage.session.rest(id).await.1.done();
}

#[tokio::test]
async fn a_cancel_closes_the_backends_connection_within_a_second() {
    let mut stage = stage(Backend::start("m").await).await;
    let id = stage.session.start_job("m").await;
    let mut exchange = stage.backend.request().await;
    exchange.open_stream().await;
    exchange.send(token("one")).await;
    stage.session.chunk(id).await;
    stage.session.send(&json!({"type": "job_cancel", "job_id": id}).to_string()).await;
    // It has read the cancel when it answers what came after, and says nothing more of the job.
    stage.session.settle().await;
    assert!(exchange.closed_in(std::time::Duration::from_secs(1)).await);
    stage.session.settle().await;
    let next = stage.session.start_job("m").await;
    let mut exchange = stage.backend.request().await;
    exchange.open_stream().await;
    exchange.finish().await;
    stage.session.rest(next).await.1.done();
}

#[tokio::test]
async fn a_cancel_before_the_response_starts_closes_it_too() {
    let mut stage = stage(Backend::start("m").await).await;
    let id = stage.session.start_job("m").await;
    let mut exchange = stage.backend.request().await;
    stage.session.send(&json!({"type": "job_cancel", "job_id": id}).to_string()).await;
    stage.session.settle().await;
    assert!(exchange.closed_in(std::time::Duration::from_secs(1)).await);
    stage.session.settle().await;
}

#[tokio::test]
async fn when_the_coordinator_is_gone_so_is_the_backends_connection() {
    let mut stage = stage(Backend::start("m").await).await;
    stage.session.start_job("m").await;
    let mut exchange = stage.backend.request().await;
    exchange.open_stream().await;
    exchange.send(token("one")).await;
    stage.session.reset();
    exchange.closed().await;
}

#[tokio::test]
async fn a_job_in_anthropics_format_goes_to_messages() {
    let mut stage = stage(Backend::with_messages("m").await).await;
    let id = uuid::Uuid::new_v4();
    let request = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], "stream": false});
    let frame = json!({"type": "job", "job_id": id, "model_id": "m", "format": "anthropic", "request": request});
    stage.session.send(&frame.to_string()).await;
    let mut exchange = stage.backend.request().await;
    assert_eq!(exchange.line, "POST /v1/messages");
    assert_eq!(exchange.header("anthropic-version"), Some("2023-06-01"));
    let mut expected = request;
    expected["stream"] = json!(true);
    expected["model"] = json!("m");
    assert_eq!(exchange.json(), expected);
    exchange.open_stream().await;
    let answer = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":11}}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );
    exchange.send(answer).await;
    exchange.raw(b"0\r\n\r\n").await;
    let (bytes, end) = stage.session.rest(id.to_string().parse().unwrap()).await;
    assert_eq!(bytes, answer.as_bytes());
    let tokens = end.done().tokens;
    assert_eq!((tokens.input, tokens.output), (11, 7));
}

#[tokio::test]
async fn a_job_in_a_format_that_the_backend_has_not_is_refused() {
    let mut stage = stage(Backend::start("m").await).await;
    let id = uuid::Uuid::new_v4();
    let frame = json!({"type": "job", "job_id": id, "model_id": "m", "format": "anthropic", "request": {}});
    stage.session.send(&frame.to_string()).await;
    stage.session.rest(id.to_string().parse().unwrap()).await.1.assert_code(ErrorCode::Internal);
    assert!(stage.backend.is_idle());
}

#[tokio::test]
async fn a_deadline_ends_the_job_and_the_backends_connection() {
    let mut stage = stage(Backend::start("m").await).await;
    let id = uuid::Uuid::new_v4();
    let frame = json!({"type": "job", "job_id": id, "model_id": "m", "deadline_ms": 300, "request": {}});
    stage.session.send(&frame.to_string()).await;
    let mut exchange = stage.backend.request().await;
    stage.session.rest(id.to_string().parse().unwrap()).await.1.assert_code(ErrorCode::BackendTimeout);
    within("end of the backend's connection", exchange.closed()).await;
}
