//! A job that is done: the backend's bytes are sent unchanged, and its tokens are reported.

use bytes::Bytes;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::{FromCoordinator, Tokens};
use outpost::testkit::{Harness, Reply, ScriptedBackend, answer, job_frame};
use serde_json::json;

async fn agent(backend: &ScriptedBackend) -> (Harness, outpost::testkit::CoordinatorLink) {
    let mut harness = Harness::builder().backend(backend).start();
    let link = harness.connect().await;
    (harness, link)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn its_bytes_are_sent_exactly_as_they_were_received() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let mut strange = vec![
        Bytes::from_static(b"\xef\xbb\xbf: a comment\r\n\r\n"),
        Bytes::from_static(b"data: {\"a\":\"\xc3"),
        Bytes::from_static(b"\xa4\"}\rdata: \xff\xfe not even text\n\n"),
        Bytes::new(),
        Bytes::from(vec![b'x'; 100_000]),
        Bytes::from_static(b"\n\n"),
    ];
    strange.extend(answer(Endpoint::ChatCompletions, "end", 3, 5));
    backend.reply([Reply::Stream(strange.clone())]);
    let job = link.job("m", "{}");
    let trace = link.outcome_of(job).await;
    assert_eq!(trace.bytes, strange.concat());
    assert_eq!(trace.done().tokens, Tokens::new(3, 5));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_piece_is_sent_when_it_is_received() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    backend.reply([Reply::ByHand]);
    let job = link.job("m", "{}");
    let request = backend.request().await;
    request.head();
    for piece in answer(Endpoint::ChatCompletions, "word by word", 1, 1) {
        request.piece(piece.clone());
        assert_eq!(link.chunk_of(job).await, piece);
    }
    request.end();
    link.outcome_of(job).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_long_answer_is_whole_and_in_order() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let mut pieces: Vec<Bytes> = (0..700).map(|i: u32| format!(": {i} {}\n\n", "x".repeat(8000)).into()).collect();
    pieces.extend(answer(Endpoint::ChatCompletions, "end", 1, 1));
    backend.reply([Reply::Stream(pieces.clone())]);
    let job = link.job("m", "{}");
    let trace = link.outcome_of(job).await;
    trace.done();
    assert!(trace.bytes == pieces.concat(), "5.6 MB through a budget of 4");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn its_tokens_are_those_that_the_backend_reports_or_none() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend).await;
    let silent = Reply::pieces(&["data: {\"choices\":[]}\n\n", "data: [DONE]\n\n"]);
    for (reply, tokens) in [
        (Reply::Stream(answer(Endpoint::ChatCompletions, "a", 11, 7)), Tokens::new(11, 7)),
        (silent, Tokens::default()),
        (Reply::pieces(&["data: {\"usage\":{\"prompt_tokens\":-1}}\n\ndata: [DONE]\n\n"]), Tokens::default()),
    ] {
        backend.reply([reply]);
        let job = link.job("m", "{}");
        assert_eq!(link.outcome_of(job).await.done().tokens, tokens);
    }
    let state = harness.until(|state| state.jobs.done == 3).await;
    assert_eq!((state.tokens.input, state.tokens.output), (11, 7));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_model_on_offer_is_the_model_that_runs() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let request = r#"{"model":"other","messages":[{"role":"user","content":"hi \"model\":\"x\""}],"stream":false,"mod\u0065l":"third"}"#;
    let job = link.job("m", request);
    link.outcome_of(job).await.done();
    let asked = backend.request().await;
    assert_eq!(asked.endpoint, Endpoint::ChatCompletions);
    let body = asked.json();
    assert_eq!((&body["model"], &body["stream"]), (&json!("m"), &json!(true)));
    assert_eq!(body["messages"][0]["content"], "hi \"model\":\"x\"");
    let models = String::from_utf8_lossy(&asked.body).matches("other").count();
    assert_eq!(models, 0, "the request's own model is nowhere in the body");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_anthropic_job_goes_to_a_backend_that_has_messages() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let mut job = job_frame("m", r#"{"max_tokens":5,"messages":[]}"#);
    job.endpoint = Endpoint::Messages;
    link.send_job(&job);
    let trace = link.outcome_of(job.job_id).await;
    assert_eq!(trace.done().tokens, Tokens::new(3, 5));
    assert_eq!(trace.bytes, answer(Endpoint::Messages, "hello", 3, 5).concat());
    assert_eq!(backend.request().await.endpoint, Endpoint::Messages);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_unknown_format_is_taken_as_openai() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let job = job_frame("m", "{}");
    let text = serde_json::to_string(&FromCoordinator::Job(job.clone())).unwrap().replace(r#""openai""#, r#""grpc""#);
    link.send_text(text);
    link.outcome_of(job.job_id).await.done();
    assert_eq!(backend.request().await.endpoint, Endpoint::ChatCompletions);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_in_fragments_with_a_ping_between_them_is_one_job() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let prompt = "word ".repeat(400_000);
    let job = job_frame("m", format!(r#"{{"messages":"{prompt}"}}"#));
    let text = serde_json::to_string(&FromCoordinator::Job(job.clone())).unwrap();
    link.send_fragmented(&text, 37);
    link.outcome_of(job.job_id).await.done();
    assert_eq!(backend.request().await.json()["messages"], prompt.as_str());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_id_that_runs_already_runs_once() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend).await;
    backend.reply([Reply::ByHand]);
    let job = job_frame("m", "{}");
    link.send_job(&job);
    let request = backend.request().await;
    link.send_job(&job);
    link.send_text(format!(r#"{{"type":"job","job_id":"{}","model_id":7}}"#, job.job_id));
    link.send_text(format!(r#"{{"type":"job","job_id":"{}","model_id":"m","request":{{"brok"#, job.job_id));
    let mut elsewhere = job.clone();
    elsewhere.model_id = "no such model".into();
    link.send_job(&elsewhere);
    link.fence().await;
    assert_eq!(harness.snapshot().frames_skipped, 4);
    assert!(link.unread_messages().is_empty(), "none of them is answered: an answer would end the job");
    request.head();
    answer(Endpoint::ChatCompletions, "once", 1, 1).into_iter().for_each(|piece| request.piece(piece));
    request.end();
    link.outcome_of(job.job_id).await.done();
    assert_eq!(backend.requests().len(), 1);

    harness.until(|state| state.in_flight == 0).await;
    link.send_job(&job);
    link.outcome_of(job.job_id).await.done();
    assert_eq!(backend.requests().len(), 2, "a job that has ended may come again");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_id_is_echoed_in_the_received_spelling() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    let id = "6F1C3F0E-5f0b-4F43-9C7E-0D6F5F8F6F10";
    let mut job = job_frame("m", "{}");
    job.job_id = id.parse().unwrap();
    link.send_job(&job);
    assert_eq!(link.outcome_of(job.job_id).await.done().job_id.as_str(), id);
    harness.stop().await;
}
