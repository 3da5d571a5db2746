//! Responses that are longer than what the agent holds of an event or a body, and tool inputs that are not JSON: clients can
//! cause both, so neither costs the answer, its figures, or the backend its jobs.

use bytes::Bytes;
use outpost::messages::endpoint::{AnswerForm, Endpoint};
use outpost::messages::wire::{ErrorCode, Extensions, Tokens};
use outpost::testkit::{CoordinatorLink, Harness, JobTrace, Reply, ScriptedBackend, answer, job_frame_at};
use serde_json::{Value, json};

use AnswerForm::{Stream, Whole};

async fn agent(backend: &ScriptedBackend) -> (Harness, CoordinatorLink) {
    let mut harness = Harness::builder().backend(backend).start();
    harness.coordinator.offer(Extensions::without_resume());
    let link = harness.connect().await;
    (harness, link)
}

async fn served(link: &mut CoordinatorLink, endpoint: Endpoint, form: AnswerForm) -> JobTrace {
    let job = job_frame_at(endpoint, form, "m", r#"{"input":"x"}"#);
    link.send_job(&job);
    link.outcome_of(job.job_id).await
}

/// These bytes in pieces, as a network delivers them.
fn pieces(bytes: &[u8]) -> Vec<Bytes> {
    bytes.chunks(60_000).map(Bytes::copy_from_slice).collect()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_whose_last_event_is_long_is_complete_and_counted_in_either_form() {
    let metadata = "\"usage\":{}".repeat(200_000);
    let response = json!({"metadata": {"a": metadata}, "status": "completed",
        "usage": {"input_tokens": 3, "output_tokens": 5}});
    let last = json!({"type": "response.completed", "response": response});
    let stream = format!("event: response.completed\ndata: {last}\n\n");
    for key in [None, Some("sk-0123456789abcdef")] {
        let backend = ScriptedBackend::new("box", &["m"]);
        key.inspect(|key| backend.set_key(key));
        let (harness, mut link) = agent(&backend).await;
        backend.reply_always(Reply::Stream(pieces(stream.as_bytes())));
        let trace = served(&mut link, Endpoint::Responses, Stream).await;
        assert_eq!(trace.done().tokens, Tokens::new(3, 5));
        assert!(trace.bytes == stream.as_bytes());
        let trace = served(&mut link, Endpoint::Responses, Whole).await;
        assert_eq!(trace.done().tokens, Tokens::new(3, 5));
        assert!(serde_json::from_slice::<Value>(&trace.bytes).unwrap() == response);
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_that_ends_after_a_long_unreadable_event_is_not_the_backends_failure() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let stream = format!("data: {}\n\n", "x".repeat(2 << 20));
    backend.reply(std::iter::repeat_n(Reply::Stream(pieces(stream.as_bytes())), 4));
    for _ in 0..4 {
        let trace = served(&mut link, Endpoint::ChatCompletions, Stream).await;
        assert_eq!((trace.code(), trace.bytes.len()), (ErrorCode::Internal, stream.len()));
    }
    served(&mut link, Endpoint::ChatCompletions, Stream).await.done();
    assert!(link.unread_messages().is_empty(), "the offer did not change");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_whole_body_longer_than_what_is_held_is_sent_as_it_comes() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let numbers = "0.0123456789,".repeat(1_400_000);
    let body = Bytes::from(format!(
        r#"{{"object":"list","data":[{{"embedding":[{numbers}0]}}],"usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#
    ));
    backend.reply([Reply::Content("application/json", body.clone())]);
    let trace = served(&mut link, Endpoint::Embeddings, Whole).await;
    assert_eq!(trace.done().tokens, Tokens::new(7, 0));
    assert_eq!(trace.head.clone().map(|head| head.status()), Some(200));
    assert!(body.len() > 16 << 20 && trace.bytes == body);

    backend.reply([Reply::Content("application/json", body.slice(..body.len() - 1))]);
    let trace = served(&mut link, Endpoint::Embeddings, Whole).await;
    assert_eq!(trace.code(), ErrorCode::Internal, "half an object is an error");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn tool_input_that_is_not_json_is_an_empty_object_and_not_an_error() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let tool = [
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"x\": \"ha"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
    ];
    let mut events = answer(Endpoint::Messages, "text", 3, 5);
    let at = events.len() - 2;
    events.splice(at..at, tool.map(|event| Bytes::from(format!("data: {event}\n\n"))));
    backend.reply_always(Reply::Stream(events));
    for _ in 0..4 {
        let trace = served(&mut link, Endpoint::Messages, Whole).await;
        assert_eq!(trace.done().tokens, Tokens::new(3, 5));
        let body: Value = serde_json::from_slice(&trace.bytes).unwrap();
        assert_eq!(body["content"][1], json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}));
    }
    harness.stop().await;
}
