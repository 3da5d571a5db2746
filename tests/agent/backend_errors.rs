//! What of a backend's error is sent to a coordinator that agreed on `endpoints`: the body of a refusal of the request, and
//! never the backend's API key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outpost::messages::endpoint::{AnswerForm, Endpoint, Endpoints};
use outpost::messages::wire::{ErrorCode, Extensions};
use outpost::testkit::{CoordinatorLink, Harness, JobTrace, Reply, ScriptedBackend, answer, job_frame_at};

use AnswerForm::{Stream, Whole};

const KEY: &str = "sk-CANARY/0?x+\"y~end";

async fn agent(backend: &ScriptedBackend) -> (Harness, CoordinatorLink) {
    let mut harness = Harness::builder().backend(backend).start();
    harness.coordinator.offer(Extensions::without_resume());
    let link = harness.connect().await;
    (harness, link)
}

fn backend_with_key() -> ScriptedBackend {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_key(KEY);
    backend
}

async fn served(link: &mut CoordinatorLink, endpoint: Endpoint, form: AnswerForm) -> JobTrace {
    let job = job_frame_at(endpoint, form, "m", r#"{"max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#);
    link.send_job(&job);
    link.outcome_of(job.job_id).await
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// An error object that quotes this text.
fn quoting(text: &str) -> String {
    format!(r#"{{"error":{{"message":"headers: authorization: Bearer {text}","type":"bad_request"}}}}"#)
}

/// The key, as servers may spell it.
fn spellings() -> [String; 5] {
    [KEY.to_owned(), json(KEY), json(&json(KEY)), percent(KEY), STANDARD.encode(format!("user:{KEY}"))]
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_body_of_a_refusal_that_contains_the_key_is_not_sent() {
    let backend = backend_with_key();
    let (harness, mut link) = agent(&backend).await;
    for (spelled, form) in spellings().iter().flat_map(|spelled| [Stream, Whole].map(|form| (spelled, form))) {
        backend.reply([Reply::Status(422, quoting(spelled).into())]);
        let trace = served(&mut link, Endpoint::Completions, form).await;
        assert_eq!((trace.head.map(|head| head.status()), trace.bytes.len()), (Some(422), 0), "{spelled}");
    }
    backend.reply([Reply::Status(422, quoting("***").into())]);
    let trace = served(&mut link, Endpoint::Completions, Stream).await;
    assert_eq!(trace.bytes, quoting("***").as_bytes(), "one without the key is sent");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refusal_whose_body_is_empty_or_too_long_is_sent_without_one() {
    let backend = backend_with_key();
    let (harness, mut link) = agent(&backend).await;
    for body in [Bytes::new(), vec![b'x'; 80 << 20].into()] {
        backend.reply([Reply::Status(400, body)]);
        let trace = served(&mut link, Endpoint::Responses, Whole).await;
        assert_eq!((trace.head.clone().map(|head| head.status()), trace.error().tokens_emitted), (Some(400), 0));
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_error_or_a_refused_key_is_not_relayed() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    for (status, code) in [
        (401, ErrorCode::AuthRejectedByBackend),
        (403, ErrorCode::AuthRejectedByBackend),
        (500, ErrorCode::Internal),
        (302, ErrorCode::Internal),
    ] {
        backend.reply([Reply::Status(status, quoting("/home/operator").into())]);
        let trace = served(&mut link, Endpoint::ChatCompletions, Stream).await;
        assert_eq!((trace.code(), trace.error().tokens_emitted), (code, 0));
        assert_eq!((trace.head, trace.bytes.len()), (None, 0));
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_error_event_that_contains_the_key_is_not_sent_however_it_is_cut() {
    let backend = backend_with_key();
    let (harness, mut link) = agent(&backend).await;
    let start = answer(Endpoint::ChatCompletions, "half", 1, 1).swap_remove(0);
    for spelled in spellings() {
        let event = format!("data: {}\n\n", quoting(&spelled));
        for at in [0, 9, event.len() / 2, event.len() - 9] {
            let (left, right) = event.split_at(at);
            let joined = [&start[..], left.as_bytes()].concat();
            backend.reply([Reply::Stream(vec![joined.into(), Bytes::from(right.to_owned())])]);
            let trace = served(&mut link, Endpoint::ChatCompletions, Stream).await;
            assert_eq!((trace.code(), &*trace.bytes), (ErrorCode::Internal, &*start), "{spelled} cut at {at}");
        }
    }
    let event = Bytes::from(format!("data: {}\n\n", quoting("***")));
    backend.reply([Reply::Stream(vec![start.clone(), event.clone()])]);
    let trace = served(&mut link, Endpoint::ChatCompletions, Stream).await;
    assert_eq!(trace.bytes, [start, event].concat(), "one without the key is sent");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_translated_error_that_contains_the_key_is_sent_without_its_text() {
    let backend = backend_with_key();
    backend.set_report(|report| report.models[0].endpoints = Endpoints::CHAT);
    let (harness, mut link) = agent(&backend).await;
    let start = answer(Endpoint::ChatCompletions, "half", 1, 1).swap_remove(0);
    for spelled in spellings() {
        let event = Bytes::from(format!("data: {}\n\n", quoting(&spelled)));
        let refusal = Reply::Status(400, quoting(&spelled).into());
        for reply in [Reply::Stream(vec![start.clone(), event]), refusal] {
            backend.reply([reply]);
            let trace = served(&mut link, Endpoint::Messages, Stream).await;
            let text = String::from_utf8(trace.bytes.clone()).unwrap();
            assert!(text.contains(r#""type":"error""#) && !text.contains("Bearer"), "{text}");
        }
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_answer_that_contains_the_key_is_cut_and_fails_without_blame() {
    let backend = backend_with_key();
    let (harness, mut link) = agent(&backend).await;
    let start = answer(Endpoint::ChatCompletions, "half", 1, 1).swap_remove(0);
    let event = Bytes::from(format!("data: {{\"detail\":{}}}\n\n", json(KEY)));
    let reply = Reply::Stream(vec![start.clone(), event, "data: [DONE]\n\n".into()]);
    backend.reply(std::iter::repeat_n(reply, 4));
    for _ in 0..4 {
        let trace = served(&mut link, Endpoint::ChatCompletions, Stream).await;
        assert_eq!((trace.code(), &*trace.bytes), (ErrorCode::Internal, &*start));
    }
    served(&mut link, Endpoint::ChatCompletions, Stream).await.done();
    harness.stop().await;
}
