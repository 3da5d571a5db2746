//! Anthropic's messages where a backend has only chat completions: what comes back is in Anthropic's shape, streamed or
//! whole, and so are errors where `endpoints` was agreed on.

use outpost::messages::endpoint::{AnswerForm, Endpoint, Endpoints};
use outpost::messages::wire::{ErrorCode, Extension, Extensions, ResponseHead, Tokens};
use outpost::testkit::{
    CoordinatorLink, Harness, JobTrace, Reply, ScriptedBackend, StreamFault, job_frame, job_frame_at,
};
use serde_json::Value;

use AnswerForm::{Stream, Whole};

const REQUEST: &str = r#"{"max_tokens":9,"system":"short","messages":[{"role":"user","content":"2+2?"}]}"#;

fn chat_only(name: &str) -> ScriptedBackend {
    let backend = ScriptedBackend::new(name, &["m"]);
    backend.set_report(|report| report.models[0].endpoints = Endpoints::CHAT);
    backend
}

async fn agent(backends: &[ScriptedBackend], offer: Extensions) -> (Harness, CoordinatorLink) {
    let mut harness = backends.iter().fold(Harness::builder(), |builder, backend| builder.backend(backend)).start();
    harness.coordinator.offer(offer);
    let link = harness.connect().await;
    (harness, link)
}

async fn served(link: &mut CoordinatorLink, form: AnswerForm, request: &'static str) -> JobTrace {
    let job = job_frame_at(Endpoint::Messages, form, "m", request);
    link.send_job(&job);
    link.outcome_of(job.job_id).await
}

fn agreed() -> Extensions {
    [Extension::Endpoints].into_iter().collect()
}

fn assert_is_stream(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((events.first(), events.last()), (Some(&"message_start"), Some(&"message_stop")), "{text}");
    assert!(text.contains("four"));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_message_is_streamed_or_one_body_whatever_form_the_backend_chose() {
    let replies = [Reply::saying(Endpoint::ChatCompletions, "four"), Reply::whole(Endpoint::ChatCompletions, "four")];
    for reply in replies {
        let backend = [chat_only("box")];
        backend[0].reply_always(reply);
        let (harness, mut link) = agent(&backend, agreed()).await;
        let stream = served(&mut link, Stream, REQUEST).await;
        assert_eq!(stream.head, Some(ResponseHead::new(200, "text/event-stream")));
        assert_eq!(stream.done().tokens, Tokens::new(3, 5));
        assert_is_stream(&stream.bytes);

        let whole = served(&mut link, Whole, REQUEST).await;
        assert_eq!(whole.head, Some(ResponseHead::new(200, "application/json")));
        assert_eq!(whole.done().tokens, Tokens::new(3, 5));
        let body: Value = serde_json::from_slice(&whole.bytes).unwrap();
        assert_eq!((&body["type"], &body["content"][0]["text"]), (&"message".into(), &"four".into()));
        for _ in [Stream, Whole] {
            let mut request = backend[0].request().await;
            assert_eq!(request.endpoint, Endpoint::ChatCompletions);
            assert_eq!(request.json()["messages"][0]["role"], "system");
            // Behind its end mark, too: a server whose connection is dropped there thinks that the client went away.
            request.finished().await;
        }
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_base_coordinator_has_its_anthropic_jobs_streamed() {
    let backend = [chat_only("box")];
    backend[0].reply_always(Reply::saying(Endpoint::ChatCompletions, "four"));
    let (harness, mut link) = agent(&backend, Extensions::NONE).await;
    let mut job = job_frame("m", REQUEST);
    job.endpoint = Endpoint::Messages;
    link.send_job(&job);
    let trace = link.outcome_of(job.job_id).await;
    trace.done();
    assert_is_stream(&trace.bytes);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn errors_are_sent_in_anthropics_shape() {
    for form in [Stream, Whole] {
        for (status, code) in [(400, ErrorCode::Internal), (404, ErrorCode::ModelNotLoaded), (429, ErrorCode::Internal)]
        {
            let backend = [chat_only("box")];
            backend[0].reply([Reply::Status(status, r#"{"error":{"message":"too long","type":"x"}}"#.into())]);
            let (harness, mut link) = agent(&backend, agreed()).await;
            let trace = served(&mut link, form, REQUEST).await;
            assert_eq!((trace.code(), trace.head), (code, Some(ResponseHead::new(status, "application/json"))));
            let body: Value = serde_json::from_slice(&trace.bytes).unwrap();
            assert_eq!((&body["type"], &body["error"]["message"]), (&"error".into(), &"too long".into()));
            harness.stop().await;
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_malformed_message_request_reaches_no_backend() {
    let backend = [chat_only("box")];
    let (harness, mut link) = agent(&backend, agreed()).await;
    let trace = served(&mut link, Stream, r#"{"messages":7}"#).await;
    assert_eq!((trace.code(), trace.head), (ErrorCode::Internal, Some(ResponseHead::new(400, "application/json"))));
    let body: Value = serde_json::from_slice(&trace.bytes).unwrap();
    assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &"invalid_request_error".into()));
    assert!(backend[0].requests().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_translated_job_is_retried_too_before_its_first_byte() {
    for reply in [Reply::Refuse, Reply::Stream(Vec::new()), Reply::StreamThen(Vec::new(), StreamFault::Break)] {
        let backends = ["box0", "box1"].map(chat_only);
        backends[0].reply([reply]);
        backends[1].reply([Reply::saying(Endpoint::ChatCompletions, "four")]);
        let (harness, mut link) = agent(&backends, agreed()).await;
        let trace = served(&mut link, Stream, REQUEST).await;
        trace.done();
        assert_is_stream(&trace.bytes);
        harness.stop().await;
    }
}
