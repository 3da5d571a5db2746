//! Agents and clients that send too much, too fast or the wrong thing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is amiss")]
#![allow(clippy::disallowed_methods, reason = "a test is its own owner: what it spawns ends with its runtime")]

mod coordinator_fixture;

use std::time::Duration;

use actix_http::ws::Item;
use awc::ws::Message;
use bytes::Bytes;
use coordinator_fixture::{Agent, Coordinator, Seen, soon};
use futures_util::SinkExt;
use outpost::messages::ids::JobId;
use outpost::messages::wire::{FromAgent, FromCoordinator, JobChunk};
use tokio::io::AsyncWriteExt;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

async fn works(coordinator: &Coordinator, agent: &mut Agent) {
    let pending = coordinator.start_request(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.chunk(job, DONE).await;
    agent.done(job).await;
    assert_eq!(soon(pending).await.unwrap().body, DONE);
}

#[actix_rt::test]
async fn a_frame_that_announces_too_much_ends_the_session_before_it_arrives() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    let gigabyte = [0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4];
    agent.socket.io_mut().write_all(&gigabyte).await.unwrap();
    assert_eq!(agent.see().await, Seen::Close(Some((1009, "frame too large".into()))));
    assert_eq!(agent.see().await, Seen::Eof);
}

#[actix_rt::test]
async fn an_agent_that_has_not_proved_its_key_may_send_only_small_frames() {
    let coordinator = Coordinator::start().await;
    let (mut agent, _) = Agent::dial(&coordinator, "/agent", coordinator_fixture::key(1)).await;
    agent.text("x".repeat(17 << 10)).await;
    assert_eq!(agent.see().await, Seen::Close(Some((1009, "frame too large".into()))));
}

#[actix_rt::test]
async fn a_large_chunk_within_the_limit_is_relayed() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    let large = format!("data: {}\n\n", "x".repeat(3 << 20));
    let pending = coordinator.start_request(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.chunk(job, &large).await;
    agent.done(job).await;
    assert!(soon(pending).await.unwrap().body == large);
}

#[actix_rt::test]
async fn a_large_request_reaches_the_agent_complete() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    let large = format!(r#"{{"model":"m","x":"{}"}}"#, "y".repeat(5 << 20));
    let _pending = coordinator.start_request(CHAT, &large);
    assert!(agent.job().await.request == large);
}

#[actix_rt::test]
async fn fragments_are_assembled_within_the_limit() {
    let coordinator = Coordinator::start_with(|config| config.max_agent_message = 100_000).await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    let pending = coordinator.start_request(CHAT, STREAM);
    let job_id = agent.job().await.job_id;
    let chunk = JobChunk::new(job_id, "ZGF0YTogW0RPTkVdCgo=".into());
    let text = serde_json::to_string(&FromAgent::JobChunk(chunk)).unwrap();
    let (start, end) = text.split_at(20);
    for message in [
        Message::Continuation(Item::FirstText(Bytes::copy_from_slice(start.as_bytes()))),
        Message::Ping(Bytes::new()),
        Message::Continuation(Item::Last(Bytes::copy_from_slice(end.as_bytes()))),
    ] {
        agent.socket.send(message).await.unwrap();
    }
    assert_eq!(agent.see().await, Seen::Pong);
    agent.done(job_id).await;
    assert_eq!(soon(pending).await.unwrap().body, DONE);

    let half = Bytes::from(vec![b'x'; 60_000]);
    agent.socket.send(Message::Continuation(Item::FirstText(half.clone()))).await.unwrap();
    agent.socket.send(Message::Continuation(Item::Continue(half))).await.unwrap();
    assert_eq!(agent.see().await, Seen::Close(Some((1009, "message too large".into()))));
}

#[actix_rt::test]
async fn an_unexpected_binary_message_ends_the_session() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    agent.socket.send(Message::Binary(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(agent.see().await, Seen::Close(Some((1002, "unexpected binary message".into()))));

    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    agent.socket.send(Message::Continuation(Item::FirstBinary(Bytes::new()))).await.unwrap();
    assert_eq!(agent.see().await, Seen::Close(Some((1002, "unexpected fragment".into()))));

    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    agent.socket.io_mut().write_all(&[0xf1, 0x80, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(agent.see().await, Seen::Close(Some((1002, "not WebSocket".into()))));
}

#[actix_rt::test]
async fn invalid_frames_are_skipped() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    for text in ["", "{", "[]", r#"{"type":"later","x":[{}]}"#, r#"{"type":"capabilities","models":7}"#] {
        agent.text(text.into()).await;
    }
    agent.chunk(JobId::random(), "nobody's").await;
    agent.done(JobId::random()).await;
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test]
async fn an_unreadable_chunk_ends_only_its_job() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    let pending = coordinator.start_request(CHAT, STREAM);
    let job_id = agent.job().await.job_id;
    agent.send(&FromAgent::JobChunk(JobChunk::new(job_id, "not base64".into()))).await;
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
    assert_eq!(soon(pending).await.unwrap().status, 502);
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test]
async fn an_unreadable_frame_of_a_job_ends_only_its_job() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    for fields in [
        r#""type":"job_done""#,
        r#""type":"job_error","error_code":7,"message":"x","tokens_emitted":0"#,
        r#""type":"job_error","error_code":"internal","message":"x","tokens_emitted":-1"#,
        r#""type":"job_chunk","data":[]"#,
    ] {
        let pending = coordinator.start_request(CHAT, STREAM);
        let job_id = agent.job().await.job_id;
        agent.text(format!(r#"{{{fields},"job_id":"{job_id}"}}"#)).await;
        assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
        assert_eq!(soon(pending).await.unwrap().status, 502, "{fields}");
    }
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test]
async fn an_offer_of_too_many_models_is_cut() {
    let coordinator = Coordinator::start().await;
    let names: Vec<String> = (0..5000).map(|number| format!("m{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let _agent = Agent::join(&coordinator, 1, &names, 1).await;
    let models = coordinator_fixture::Answer::of(coordinator.get("/v1/models"), "").await.json();
    assert_eq!(models["data"].as_array().unwrap().len(), 4096);
}

#[actix_rt::test]
async fn a_client_that_reads_too_slowly_loses_only_its_job() {
    let coordinator = Coordinator::start_with(|config| config.max_buffered = 1 << 20).await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 2).await;
    let pending = coordinator.post(CHAT).send_body(STREAM);
    let begin = async {
        let job_id = agent.job().await.job_id;
        agent.chunk(job_id, "data: 1\n\n").await;
        job_id
    };
    let (response, job_id) = futures_util::join!(soon(pending), begin);
    let mut response = response.unwrap();
    // The client reads nothing. The sockets in between buffer some megabytes.
    let piece = "x".repeat(256 << 10);
    for _ in 0..80 {
        agent.chunk(job_id, &piece).await;
    }
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
    works(&coordinator, &mut agent).await;
    let body = soon(response.body().limit(64 << 20)).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.len() < 80 * piece.len());
    let (_, event) = body.rsplit_once("\n\ndata: ").unwrap();
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["error"]["message"], "the answer was read too slowly");
}

#[actix_rt::test]
async fn an_agent_that_exceeds_the_deadline_gets_a_cancel() {
    let coordinator = Coordinator::start_with(|config| {
        config.job_deadline = Duration::from_millis(1);
        config.deadline_margin = Duration::from_millis(1);
    })
    .await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    let pending = coordinator.start_request(CHAT, STREAM);
    let job_id = agent.job().await.job_id;
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
    assert_eq!(soon(pending).await.unwrap().status, 504);
}

#[actix_rt::test]
#[cfg(target_os = "linux")]
async fn an_agent_that_reads_nothing_is_disconnected() {
    let coordinator = Coordinator::start_with(|config| config.agent_silence = Duration::from_secs(1)).await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    let large = format!(r#"{{"model":"m","x":"{}"}}"#, "y".repeat(20 << 20));
    let mut pending = coordinator.start_request(CHAT, &large);
    // It sends frames, but reads nothing.
    let mut beat = actix_rt::time::interval(Duration::from_millis(50));
    let answer = soon(async {
        loop {
            tokio::select! {
                answer = &mut pending => return answer.unwrap(),
                _ = beat.tick() => drop(agent.socket.send(Message::Ping(Bytes::new())).await),
            }
        }
    });
    assert_eq!(answer.await.status, 502);
}
