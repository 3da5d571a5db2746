//! A job that fails: each cause has its code, and nothing of a backend's error goes further than a label.

use std::time::Duration;

use bytes::Bytes;
use outpost::messages::endpoint::{Endpoint, Endpoints};
use outpost::messages::wire::{ErrorCode, FromCoordinator, JobError};
use outpost::testkit::{Harness, Reply, ScriptedBackend, StreamFault, answer, job_frame};
use tokio::time::Instant;

/// Something that must not be in any frame but the answer's own bytes.
const SECRET: &str = "the prompt was: xyzzy";

/// The error of a job that gets this reply, and the bytes that were sent before it.
async fn fails_with(reply: Reply) -> (JobError, Vec<u8>) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([reply]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let job = link.job("m", "{}");
    let trace = link.outcome_of(job).await;
    let error = trace.error().clone();
    assert_eq!(error.tokens_emitted, trace.bytes.len() as u64);
    assert!(!error.message.contains("xyzzy") && error.message.len() < 200, "{}", error.message);
    let state = harness.until(|state| state.in_flight == 0).await;
    assert_eq!(state.jobs.failed.get(error.error_code.as_str()), Some(&1));

    let next = link.job("m", "{}");
    link.outcome_of(next).await.done();
    harness.stop().await;
    (error, trace.bytes)
}

fn body(code: &str) -> Bytes {
    format!(r#"{{"error":{{"message":"{SECRET}","type":"{code}","code":null}}}}"#).into()
}

fn some_events() -> Vec<Bytes> {
    answer(Endpoint::ChatCompletions, "half an answer", 1, 1).into_iter().take(2).collect()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_status_has_its_code_and_its_body_is_not_relayed() {
    let table = [
        (401, "invalid_api_key", ErrorCode::AuthRejectedByBackend),
        (403, "forbidden", ErrorCode::AuthRejectedByBackend),
        (404, "whatever", ErrorCode::ModelNotLoaded),
        (404, "model_not_found", ErrorCode::ModelNotLoaded),
        (400, "model_not_found", ErrorCode::ModelNotLoaded),
        (400, "NotFoundError", ErrorCode::ModelNotLoaded),
        (400, "context_length_exceeded", ErrorCode::Internal),
        (422, "bad_request", ErrorCode::Internal),
        (429, "rate_limit", ErrorCode::Internal),
        (500, "model_not_found", ErrorCode::Internal),
        (503, "busy", ErrorCode::Internal),
        (302, "moved", ErrorCode::Internal),
    ];
    for (status, label, code) in table {
        let (error, bytes) = fails_with(Reply::Status(status, body(label))).await;
        assert_eq!(error.error_code, code, "{status} {label}");
        assert!(bytes.is_empty(), "{status} {label}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_endless_error_body_is_read_to_a_bound() {
    let (error, bytes) = fails_with(Reply::Status(500, vec![b'x'; 80 << 20].into())).await;
    assert_eq!((error.error_code, bytes.len()), (ErrorCode::Internal, 0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_that_refuses_the_connection_is_unreachable() {
    assert_eq!(fails_with(Reply::Refuse).await.0.error_code, ErrorCode::BackendUnreachable);
    assert_eq!(fails_with(Reply::Garble).await.0.error_code, ErrorCode::Internal);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stream_that_breaks_off_is_internal_and_the_sent_bytes_are_counted() {
    for fault in [StreamFault::Truncate, StreamFault::Break] {
        let (error, bytes) = fails_with(Reply::StreamThen(some_events(), fault)).await;
        assert_eq!(error.error_code, ErrorCode::Internal, "{fault:?}");
        assert_eq!(bytes, some_events().concat(), "{fault:?}");
    }
    let (error, bytes) = fails_with(Reply::Stream(Vec::new())).await;
    assert_eq!((error.error_code, bytes.len()), (ErrorCode::Internal, 0), "an empty body is not a response");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_error_event_is_internal_whatever_comes_after_it() {
    let event = "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
    for reply in [Reply::pieces(&[event]), Reply::pieces(&[event, "data: [DONE]\n\n"])] {
        let (error, _) = fails_with(reply).await;
        assert_eq!(error.error_code, ErrorCode::Internal);
        assert!(error.message.contains("server_error"), "its label is sent: {}", error.message);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_success_that_is_not_an_event_stream_is_internal_and_not_relayed() {
    for kind in ["text/html", "application/json", "text/plain"] {
        let (error, bytes) = fails_with(Reply::Content(kind, SECRET.into())).await;
        assert_eq!((error.error_code, bytes.len()), (ErrorCode::Internal, 0), "{kind}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_deadline_counts_from_receipt_and_drops_the_request() {
    let stall = Reply::StreamThen(some_events(), StreamFault::Stall);
    for (reply, relayed) in [(Reply::Hang, 0), (stall, some_events().concat().len() as u64)] {
        let backend = ScriptedBackend::new("box", &["m"]);
        backend.reply([reply]);
        let mut harness = Harness::builder().backend(&backend).start();
        let mut link = harness.connect().await;
        let mut job = job_frame("m", "{}");
        job.deadline = Duration::from_millis(7_500);
        let sent = Instant::now();
        link.send_job(&job);
        let error = link.outcome_of(job.job_id).await.error().clone();
        assert_eq!((error.error_code, error.tokens_emitted), (ErrorCode::BackendTimeout, relayed));
        assert!((7_500..7_510).contains(&sent.elapsed().as_millis()), "{:?}", sent.elapsed());
        backend.request().await.dropped().await;
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_a_usable_deadline_it_is_a_minute() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::Hang);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    for deadline in ["0", "-1", "1.5", "\"9\"", "null"] {
        let job = job_frame("m", "{}").job_id;
        let text =
            format!(r#"{{"type":"job","job_id":"{job}","model_id":"m","request":{{}},"deadline_ms":{deadline}}}"#);
        let sent = Instant::now();
        link.send_text(text);
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::BackendTimeout);
        assert_eq!(sent.elapsed().as_secs(), 60, "{deadline}");
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_deadline_past_32_bits_is_not_cut() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::ByHand);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let deadlines = [u64::from(u32::MAX) + 1, u64::MAX].map(Duration::from_millis);
    let jobs = deadlines.map(|deadline| {
        let mut job = job_frame("m", "{}");
        job.deadline = deadline;
        link.send_job(&job)
    });
    let requests = [backend.request().await, backend.request().await];
    for _ in 0..40 {
        link.heartbeat().await;
    }
    assert_eq!(harness.snapshot().in_flight, 2, "ten minutes on, both still run");
    for (job, request) in jobs.into_iter().zip(requests) {
        request.head();
        answer(Endpoint::ChatCompletions, "late", 1, 1).into_iter().for_each(|piece| request.piece(piece));
        request.end();
        link.outcome_of(job).await.done();
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_model_that_is_not_on_offer_is_not_loaded() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    for model in ["n", "M", "m "] {
        let job = link.job(model, "{}");
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::ModelNotLoaded);
    }
    assert!(backend.requests().is_empty());
    assert_eq!(harness.snapshot().jobs.refused.get("model_not_loaded"), Some(&3));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_anthropic_job_needs_a_backend_that_has_messages_or_chat() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_report(|report| report.models[0].endpoints = Endpoints::NONE.with(Endpoint::Embeddings));
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let mut job = job_frame("m", "{}");
    job.endpoint = Endpoint::Messages;
    link.send_job(&job);
    assert_eq!(link.outcome_of(job.job_id).await.code(), ErrorCode::Internal);
    assert!(backend.requests().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_malformed_job_with_a_readable_id_is_answered() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let long = format!(r#","model_id":"{}","request":{{}}"#, "m".repeat(513));
    let fields = [
        "",
        r#","model_id":"m""#,
        r#","request":{}"#,
        r#","model_id":7,"request":{}"#,
        r#","model_id":"m","request":[]"#,
        &long,
    ];
    for fields in fields {
        let job = job_frame("m", "{}").job_id;
        link.send_text(format!(r#"{{"type":"job","job_id":"{job}"{fields}}}"#));
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal, "{fields}");
    }
    link.send_text(r#"{"type":"job","job_id":"not-a-uuid","model_id":"m","request":{}}"#);
    link.send(&FromCoordinator::Unknown { kind: "job2".into() });
    link.fence().await;
    assert!(link.unread_messages().is_empty(), "without an id there is nothing to answer");
    assert_eq!(harness.snapshot().frames_skipped, 1);
    assert!(backend.requests().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_whose_frame_can_not_be_read_to_its_end_is_answered_once() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(1030), "]".repeat(1030));
    let deep_and_large = format!(r#"{{"prompt":"{}","x":{deep}}}"#, "word ".repeat(400_000));
    for request in [&deep, &deep_and_large, r#"{"messages":[{"content":"brok"#, "tru"] {
        for order_of_members in [0, 1] {
            let job = job_frame("m", "{}").job_id;
            let id = format!(r#""type":"job","job_id":"{job}","model_id":"m""#);
            match order_of_members {
                0 => link.send_text(format!(r#"{{{id},"request":{request}}}"#)),
                _ if request.ends_with('}') => link.send_text(format!(r#"{{"request":{request},{id}}}"#)),
                _ => continue,
            }
            assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
        }
    }
    link.fence().await;
    assert!(link.unread_messages().is_empty());
    assert_eq!((harness.snapshot().frames_skipped, harness.snapshot().in_flight), (0, 0));
    assert!(backend.requests().is_empty());
    harness.stop().await;
}
