//! With `endpoints` agreed on, every path is served, streamed and as one body, and a backend's own words reach the
//! coordinator; without it, nothing of all that is said.

use bytes::Bytes;
use outpost::internals::Assembly;
use outpost::messages::endpoint::{AnswerForm, Endpoint, Endpoints};
use outpost::messages::wire::{BinaryChunk, ErrorCode, Extension, Extensions, FromAgent, ResponseHead, Tokens};
use outpost::testkit::{
    CoordinatorLink, Frame, Harness, JobTrace, Reply, ScriptedBackend, StreamFault, answer, job_frame, job_frame_at,
    whole_answer,
};
use serde_json::Value;

use AnswerForm::{Stream, Whole};

const STREAMED: [Endpoint; 4] =
    [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Responses, Endpoint::Messages];

fn endpoints() -> Extensions {
    [Extension::Endpoints].into_iter().collect()
}

async fn agent(backend: &ScriptedBackend, offer: Extensions) -> (Harness, CoordinatorLink) {
    let mut harness = Harness::builder().backend(backend).start();
    harness.coordinator.offer(offer);
    let link = harness.connect().await;
    (harness, link)
}

async fn served(link: &mut CoordinatorLink, endpoint: Endpoint, form: AnswerForm) -> JobTrace {
    let job = job_frame_at(endpoint, form, "m", r#"{"input":"x","stream":false}"#);
    link.send_job(&job);
    link.outcome_of(job.job_id).await
}

fn head(status: u16, content_type: &str) -> Option<ResponseHead> {
    Some(ResponseHead::new(status, content_type))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_path_is_streamed_as_the_backend_streams_it() {
    for offer in [endpoints(), Extensions::without_resume()] {
        let backend = ScriptedBackend::new("box", &["m"]);
        let (harness, mut link) = agent(&backend, offer).await;
        for endpoint in STREAMED {
            let trace = served(&mut link, endpoint, Stream).await;
            assert_eq!(trace.head, head(200, "text/event-stream"));
            assert_eq!(trace.bytes, answer(endpoint, "hello", 3, 5).concat());
            assert_eq!(trace.done().tokens, Tokens::new(3, 5));
            let request = backend.request().await;
            assert_eq!((request.endpoint, &request.json()["stream"]), (endpoint, &true.into()));
        }
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_path_is_served_as_one_body_of_a_stream() {
    for offer in [endpoints(), Extensions::without_resume()] {
        let backend = ScriptedBackend::new("box", &["m"]);
        let (harness, mut link) = agent(&backend, offer).await;
        for endpoint in STREAMED {
            let trace = served(&mut link, endpoint, Whole).await;
            assert_eq!(trace.head, head(200, "application/json"));
            let mut body = json(&trace.bytes);
            if endpoint == Endpoint::ChatCompletions || endpoint == Endpoint::Completions {
                assert_eq!(body["object"], json(&whole_answer(endpoint, "hello", 3, 5))["object"]);
                body = body["choices"][0].take();
                let said = if body["text"].is_string() { &body["text"] } else { &body["message"]["content"] };
                assert_eq!(said, "hello");
            } else {
                assert_eq!(body, json(&whole_answer(endpoint, "hello", 3, 5)));
            }
            assert_eq!(trace.done().tokens, Tokens::new(3, 5));
            let mut request = backend.request().await;
            assert_eq!((request.endpoint, &request.json()["stream"]), (endpoint, &true.into()), "cancels depend on it");
            request.finished().await;
        }
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn embeddings_are_one_body_whatever_the_job_requests() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend, Extensions::without_resume()).await;
    for form in [Stream, Whole] {
        let trace = served(&mut link, Endpoint::Embeddings, form).await;
        assert_eq!(trace.head, head(200, "application/json"));
        assert_eq!(trace.bytes, whole_answer(Endpoint::Embeddings, "", 3, 5));
        assert_eq!(trace.done().tokens, Tokens::new(3, 0));
        assert!(backend.request().await.json().get("stream").is_none());
    }
    backend.reply([Reply::pieces(&["data: {}\n\n", "data: [DONE]\n\n"])]);
    assert_eq!(served(&mut link, Endpoint::Embeddings, Whole).await.code(), ErrorCode::Internal);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_ignores_stream_serves_either_form() {
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Messages] {
        let backend = ScriptedBackend::new("box", &["m"]);
        let (harness, mut link) = agent(&backend, Extensions::without_resume()).await;
        backend.reply_always(Reply::whole(endpoint, "hello"));
        let whole = served(&mut link, endpoint, Whole).await;
        assert_eq!((whole.head.clone(), whole.done().tokens), (head(200, "application/json"), Tokens::new(3, 5)));
        assert_eq!(whole.bytes, whole_answer(endpoint, "hello", 3, 5), "as it is spelled");

        let stream = served(&mut link, endpoint, Stream).await;
        assert_eq!((stream.head.clone(), stream.done().tokens), (head(200, "text/event-stream"), Tokens::new(3, 5)));
        let mut assembly = Assembly::new(endpoint, 1 << 20);
        assembly.feed(&stream.bytes).unwrap();
        let Ok(folded) = assembly.finish() else { panic!("no good stream") };
        assert_eq!(json(&folded.body), json(&whole.bytes));
        harness.stop().await;
    }
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend, Extensions::without_resume()).await;
    backend.reply_always(Reply::whole(Endpoint::Responses, "hello"));
    let whole = served(&mut link, Endpoint::Responses, Whole).await;
    assert_eq!(whole.bytes, whole_answer(Endpoint::Responses, "hello", 3, 5));
    assert_eq!(served(&mut link, Endpoint::Responses, Stream).await.code(), ErrorCode::Internal);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_answer_that_is_not_whole_sends_no_byte_of_a_body() {
    let half: Vec<Bytes> = answer(Endpoint::ChatCompletions, "half", 1, 1).into_iter().take(2).collect();
    let error = "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
    let long =
        Bytes::from(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1 << 19)));
    let large = std::iter::repeat_n(long, 40).collect();
    for reply in [
        Reply::StreamThen(half.clone(), StreamFault::Truncate),
        Reply::StreamThen(half.clone(), StreamFault::Break),
        Reply::pieces(&[error, "data: [DONE]\n\n"]),
        Reply::pieces(&["data: 7\n\n", "data: [DONE]\n\n"]),
        Reply::Stream(Vec::new()),
        Reply::Stream(large),
        Reply::Content("application/json", "{\"choices\":[".into()),
        Reply::Content("application/json", r#"{"error":{"type":"server_error"}}"#.into()),
        Reply::Content("text/html", "<p>".into()),
    ] {
        let backend = ScriptedBackend::new("box", &["m"]);
        let (harness, mut link) = agent(&backend, Extensions::without_resume()).await;
        backend.reply([reply]);
        let trace = served(&mut link, Endpoint::ChatCompletions, Whole).await;
        assert_eq!((trace.code(), trace.error().tokens_emitted), (ErrorCode::Internal, 0));
        assert_eq!((trace.head, trace.bytes.len()), (None, 0));
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_large_body_is_sent_in_chunks_and_in_order() {
    let text = "0123456789".repeat(600_000);
    for offer in [endpoints(), Extensions::without_resume()] {
        let backend = ScriptedBackend::new("box", &["m"]);
        let (harness, mut link) = agent(&backend, offer).await;
        backend.reply([Reply::whole(Endpoint::ChatCompletions, &text)]);
        let trace = served(&mut link, Endpoint::ChatCompletions, Whole).await;
        trace.done();
        assert!(trace.bytes == whole_answer(Endpoint::ChatCompletions, &text, 3, 5), "6 MB through a budget of 4");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_first_chunk_has_the_head_and_others_are_binary_where_both_were_agreed_on() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend, Extensions::without_resume()).await;
    backend.reply([Reply::ByHand]);
    let job = link.send_job(&job_frame_at(Endpoint::ChatCompletions, Stream, "m", "{}"));
    let request = backend.request().await;
    request.head();
    let mut sent = 0;
    for (place, piece) in answer(Endpoint::ChatCompletions, "word", 1, 1).into_iter().enumerate() {
        request.piece(piece.clone());
        match link.next_frame().await {
            Frame::Text(text) if place == 0 => {
                let FromAgent::JobChunk(chunk) = serde_json::from_slice(&text).unwrap() else { panic!("no chunk") };
                assert_eq!(ResponseHead::of(&chunk), head(200, "text/event-stream"));
            }
            Frame::Binary(frame) if place > 0 => {
                let chunk = BinaryChunk::parse(&frame).ok().unwrap();
                assert_eq!((chunk.job, chunk.offset), (job.uuid(), sent));
                assert_eq!(chunk.bytes, piece);
            }
            other => panic!("unexpected {other:?}"),
        }
        sent += piece.len() as u64;
    }
    request.end();
    link.outcome_of(job).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refusal_of_the_request_is_sent_with_its_status_and_its_body() {
    for form in [Stream, Whole] {
        for (status, label, code) in [
            (400, "context_length_exceeded", ErrorCode::Internal),
            (404, "whatever", ErrorCode::ModelNotLoaded),
            (429, "rate_limit", ErrorCode::Internal),
        ] {
            for offer in [endpoints(), Extensions::without_resume()] {
                let body = format!(r#"{{"error":{{"message":"too long: 9 > 8","type":"{label}"}}}}"#);
                let backend = ScriptedBackend::new("box", &["m"]);
                let (harness, mut link) = agent(&backend, offer).await;
                backend.reply([Reply::Status(status, body.clone().into())]);
                let trace = served(&mut link, Endpoint::Messages, form).await;
                assert_eq!((trace.head.clone(), trace.code()), (head(status, "application/json"), code));
                assert_eq!(trace.bytes, body.as_bytes());
                assert_eq!(trace.error().tokens_emitted, body.len() as u64);
                assert!(!trace.error().message.contains("too long"));
                harness.stop().await;
            }
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_for_a_path_that_no_backend_has_ends_with_internal() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_report(|report| report.models[0].endpoints = Endpoints::CHAT);
    let (harness, mut link) = agent(&backend, Extensions::without_resume()).await;
    let asked = r#","endpoint":"/v1/chat/completions""#;
    for (fields, code) in [
        (r#","endpoint":"/v1/videos""#, ErrorCode::Internal),
        (r#","endpoint":["/v1/embeddings"]"#, ErrorCode::Internal),
        (&format!(r#"{asked},"stream":"no""#), ErrorCode::Internal),
        (r#","endpoint":"/v1/embeddings""#, ErrorCode::Internal),
    ] {
        let job = job_frame("m", "{}").job_id;
        link.send_text(format!(r#"{{"type":"job","job_id":"{job}","model_id":"m","request":{{}}{fields}}}"#));
        assert_eq!(link.outcome_of(job).await.code(), code, "{fields}");
    }
    assert!(backend.requests().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancel_silences_a_job_whose_body_is_being_assembled() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend, Extensions::without_resume()).await;
    backend.reply([Reply::ByHand]);
    let job = link.send_job(&job_frame_at(Endpoint::ChatCompletions, Whole, "m", "{}"));
    let mut request = backend.request().await;
    request.head();
    request.piece("data: {\"choices\":[]}\n\n");
    request.taken(1).await;
    link.cancel_and_silence(job).await;
    request.dropped().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn offers_list_the_paths_of_each_model() {
    let backend = ScriptedBackend::new("box", &["chat", "vectors"]);
    let vectors = Endpoints::NONE.with(Endpoint::Embeddings);
    backend.set_report(|report| {
        report.models[0].endpoints = Endpoints::BASE;
        report.models[1].endpoints = vectors;
    });
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer(endpoints());
    let mut link = harness.coordinator.welcome().await;
    let offers = link.capabilities().await.models.into_iter();
    let offers: Vec<_> = offers.map(|model| (model.model_id.to_string(), model.endpoints)).collect();
    assert_eq!(offers, [("chat".to_owned(), Some(Endpoints::BASE)), ("vectors".to_owned(), Some(vectors))]);
    harness.stop().await;

    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.coordinator.welcome().await;
    let offers = link.capabilities().await.models;
    assert_eq!(offers.len(), 1, "a base coordinator could do nothing with the other one");
    assert_eq!((offers[0].model_id.as_str(), offers[0].endpoints), ("chat", None));
    harness.stop().await;
}

/// The harness fails any test in which a frame has a field of an extension that was not agreed on.
#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_base_coordinator_is_sent_no_field_of_it_and_its_fields_are_ignored() {
    for offer in [Extensions::NONE, [Extension::Binary].into_iter().collect()] {
        let backend = ScriptedBackend::new("box", &["m"]);
        let (harness, mut link) = agent(&backend, offer).await;
        for fields in [r#","endpoint":"/v1/embeddings","stream":false"#, r#","endpoint":7,"stream":"x""#] {
            let job = job_frame("m", "{}").job_id;
            link.send_text(format!(r#"{{"type":"job","job_id":"{job}","model_id":"m","request":{{}}{fields}}}"#));
            let trace = link.outcome_of(job).await;
            assert_eq!(trace.bytes, answer(Endpoint::ChatCompletions, "hello", 3, 5).concat());
            assert_eq!((backend.request().await.endpoint, trace.head), (Endpoint::ChatCompletions, None));
        }

        backend.reply([Reply::Status(400, r#"{"error":{"message":"no"}}"#.into())]);
        let failed = link.job("m", "{}");
        let trace = link.outcome_of(failed).await;
        assert_eq!((trace.error().tokens_emitted, trace.bytes.len(), trace.head), (0, 0, None));
        backend.reply([Reply::whole(Endpoint::ChatCompletions, "hello")]);
        let ignored = link.job("m", "{}");
        assert_eq!(link.outcome_of(ignored).await.code(), ErrorCode::Internal);
        harness.stop().await;
    }
}
