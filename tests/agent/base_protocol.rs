//! To a coordinator without extensions the agent sends only the base protocol.
//!
//! The harness holds each frame of each test to that. Here one agent goes through everything at once, so that no type of
//! frame is left out, and the check itself is checked.

use std::collections::BTreeSet;

use outpost::messages::endpoint::Endpoint;
use outpost::testkit::{Frame, Harness, LinkFault, Reply, ScriptedBackend, StreamFault, answer, job_frame};
use serde_json::Value;

fn types(frames: &[Frame]) -> BTreeSet<String> {
    let texts = frames.iter().filter_map(|frame| match frame {
        Frame::Text(text) => Some(text),
        _ => None,
    });
    texts.map(|text| serde_json::from_slice::<Value>(text).unwrap()["type"].as_str().unwrap().to_owned()).collect()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn all_base_frames_together_are_of_six_types() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_report(|report| report.models[0].context_window = Some(8192));
    let mut harness = Harness::builder().backend(&backend).enrollment_code("code").max_concurrent(2).start();
    let mut link = harness.coordinator.next_connection().await;
    // An offer of extensions that this agent does not have is no reason to name one.
    link.nonce = vec![9; 32];
    link.send_text(
        r#"{"type":"auth_challenge","nonce":"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=","extensions":["weather"]}"#,
    );
    let response = link.take("auth_response", |frame| match frame {
        Frame::Text(text) => serde_json::from_slice::<Value>(text).ok(),
        _ => None,
    });
    let response = response.await;
    let keys: Vec<_> = response.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["agent_version", "enrollment_code", "pubkey", "signature", "type"]);
    link.accept(Some("agent-1"));

    let mut frames = Vec::new();
    let half = answer(Endpoint::ChatCompletions, "x", 1, 1).into_iter().take(1).collect();
    backend.reply([
        Reply::saying(Endpoint::ChatCompletions, "hello"),
        Reply::StreamThen(half, StreamFault::Break),
        Reply::Status(500, "no".into()),
        Reply::Refuse,
        Reply::Panic,
        Reply::saying(Endpoint::Messages, "hello"),
    ]);
    for _ in 0..5 {
        link.job("m", "{}");
        link.heartbeat().await;
    }
    let mut anthropic = job_frame("m", "{}");
    anthropic.endpoint = Endpoint::Messages;
    link.send_job(&anthropic);
    link.fence().await;
    link.send_text(format!(r#"{{"type":"job","job_id":"{}","endpoint":"/v1/embeddings"}}"#, anthropic.job_id));
    link.send_text(r#"{"type":"ack","job_id":"6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10","offset":0}"#);
    backend.reply_always(Reply::Hang);
    let cancelled = link.job("m", "{}");
    link.cancel_and_silence(cancelled).await;
    backend.set_models(&["m", "n"]);
    link.heartbeat().await;
    link.heartbeat().await;
    link.heartbeat().await;
    frames.extend(link.unread());
    let beats = link.heartbeat().await;
    assert_eq!(beats.queue_depth, 0);

    link.fail(LinkFault::HangUp);
    let mut link = harness.coordinator.welcome().await;
    link.job("m", "{}");
    link.fence().await;
    harness.drain();
    link.job("m", "{}");
    link.heartbeat().await;
    harness.drain();
    link.ended().await;
    frames.extend(link.unread());
    let seen = types(&frames);
    assert_eq!(
        seen.iter().map(String::as_str).collect::<Vec<_>>(),
        ["capabilities", "job_chunk", "job_done", "job_error"]
    );
    let limits = frames.iter().filter_map(|frame| match frame {
        Frame::Text(text) => serde_json::from_slice::<Value>(text).ok()?.get("limits").cloned(),
        _ => None,
    });
    for limits in limits {
        let keys: Vec<_> = limits.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["max_concurrent_total", "max_tokens_per_minute"]);
    }
    harness.stop().await;
}
