//! Several backends of one model: which one gets a job, where a failed job is retried, and when a breaker opens.

use outpost::messages::endpoint::{AnswerForm, Endpoint, Endpoints};
use outpost::messages::wire::{ErrorCode, Extension, Extensions, ResponseHead};
use outpost::testkit::{
    CoordinatorLink, Event, Harness, JobEnd, JobTrace, Reply, ScriptedBackend, StreamFault, answer, job_frame_at,
};

/// Two of the same kind; `first` is the one that an idle agent picks.
fn twins() -> [ScriptedBackend; 2] {
    ["first", "second"].map(|name| ScriptedBackend::new(name, &["m"]))
}

fn refusal(status: u16) -> Reply {
    Reply::Status(status, r#"{"error":{"message":"no","type":"whatever"}}"#.into())
}

fn half() -> Vec<bytes::Bytes> {
    answer(Endpoint::ChatCompletions, "x", 1, 1).into_iter().take(1).collect()
}

async fn ends(link: &mut CoordinatorLink, request: &str) -> Result<(), ErrorCode> {
    let job = link.job("m", request);
    let trace = link.outcome_of(job).await;
    match trace.end {
        JobEnd::Done(_) => Ok(()),
        JobEnd::Error(error) => Err(error.error_code),
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_a_backend_fails_before_the_first_byte_is_done_by_the_next() {
    let faults = [
        Reply::Refuse,
        Reply::Garble,
        refusal(404),
        refusal(429),
        refusal(502),
        refusal(503),
        refusal(504),
        Reply::StreamThen(vec![], StreamFault::Break),
        Reply::StreamThen(vec![], StreamFault::Truncate),
    ];
    for fault in faults {
        let [first, second] = twins();
        first.reply([fault.clone()]);
        let mut harness = Harness::builder().backend(&first).backend(&second).start();
        let mut link = harness.connect().await;
        assert_eq!(ends(&mut link, "{}").await, Ok(()), "{fault:?}");
        assert_eq!((first.requests().len(), second.requests().len()), (1, 1), "{fault:?}");
        let moved = harness.events().into_iter().filter(|entry| matches!(entry.event, Event::JobMoved { .. })).count();
        let state = harness.snapshot();
        assert_eq!((moved, state.jobs.moved, state.jobs.admitted, state.jobs.done), (1, 1, 1, 1));
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_is_not_retried_after_a_byte_was_sent_or_after_a_client_error() {
    let faults = [
        Reply::StreamThen(half(), StreamFault::Break),
        Reply::StreamThen(half(), StreamFault::Truncate),
        refusal(400),
        refusal(401),
        refusal(413),
        refusal(422),
        refusal(500),
    ];
    for fault in faults {
        let [first, second] = twins();
        first.reply([fault.clone()]);
        let mut harness = Harness::builder().backend(&first).backend(&second).start();
        let mut link = harness.connect().await;
        assert!(ends(&mut link, "{}").await.is_err(), "{fault:?}");
        assert!(second.requests().is_empty(), "{fault:?}");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_has_three_tries_in_all() {
    let backends = ["a", "b", "c", "d"].map(|name| ScriptedBackend::new(name, &["m"]));
    let mut builder = Harness::builder();
    for backend in &backends {
        backend.reply_always(refusal(503));
        builder = builder.backend(backend);
    }
    let mut harness = builder.start();
    let mut link = harness.connect().await;
    assert_eq!(ends(&mut link, "{}").await, Err(ErrorCode::Internal));
    assert_eq!(backends.each_ref().map(|backend| backend.requests().len()), [1, 1, 1, 0]);
    harness.stop().await;
}

/// The outcome of a job that the first backend refuses, next to so many that hang.
async fn refused(backends: &[ScriptedBackend; 2], status: u16, hang: usize) -> JobTrace {
    let [first, second] = backends;
    let mut harness = Harness::builder().backend(first).backend(second).max_concurrent(4).start();
    harness.coordinator.offer(Extensions::from_iter([Extension::Endpoints]));
    let mut link = harness.connect().await;
    first.reply_always(Reply::Hang);
    second.reply_always(Reply::Hang);
    let hanging: Vec<_> = (0..hang).map(|_| link.job("m", "{}")).collect();
    link.fence().await;
    first.reply([refusal(status)]);
    let job = link.job("m", r#"{"max_tokens":1000}"#);
    let trace = link.outcome_of(job).await;
    assert_eq!((first.requests().len() + second.requests().len(), harness.snapshot().jobs.moved), (hang + 1, 0));
    for job in hanging {
        link.cancel_and_silence(job).await;
    }
    harness.stop().await;
    trace
}

/// What makes the second backend unfit, and the jobs that hang meanwhile.
type Case = (fn(&ScriptedBackend), usize);

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refusal_that_is_not_retried_is_sent_with_its_body_only_if_it_is_4xx() {
    let other_path = |second: &ScriptedBackend| {
        second.set_report(|report| report.models[0].endpoints = Endpoints::NONE.with(Endpoint::Embeddings));
    };
    let too_small = |second: &ScriptedBackend| second.set_report(|report| report.models[0].context_window = Some(64));
    let full = |second: &ScriptedBackend| second.set_report(|report| report.slots = Some(1));
    let cases: [Case; 3] = [(other_path, 0), (too_small, 0), (full, 2)];
    for (case, (is_unfit, hang)) in cases.into_iter().enumerate() {
        for status in [429, 502, 503, 504] {
            let backends = twins();
            is_unfit(&backends[1]);
            let trace = refused(&backends, status, hang).await;
            assert_eq!(trace.code(), ErrorCode::Internal);
            let is_sent = status == 429;
            let body = if is_sent { r#"{"error":{"message":"no","type":"whatever"}}"# } else { "" };
            assert_eq!(trace.head, is_sent.then(|| ResponseHead::new(status, "application/json")), "{case} {status}");
            assert_eq!(trace.bytes, body.as_bytes());
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancel_reaches_a_retried_job() {
    let [first, second] = twins();
    first.reply([refusal(503)]);
    second.reply([Reply::Hang]);
    let mut harness = Harness::builder().backend(&first).backend(&second).start();
    let mut link = harness.connect().await;
    let job = link.job("m", "{}");
    let mut request = second.request().await;
    link.cancel_and_silence(job).await;
    request.dropped().await;
    assert_eq!(harness.until(|state| state.in_flight == 0).await.jobs.cancelled, 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_are_spread_over_equals() {
    let [first, second] = twins();
    first.reply_always(Reply::ByHand);
    second.reply_always(Reply::ByHand);
    let mut harness = Harness::builder().backend(&first).backend(&second).max_concurrent(8).start();
    let mut link = harness.connect().await;
    let jobs: Vec<_> = (0..6).map(|_| link.job("m", "{}")).collect();
    harness.until(|state| state.in_flight == 6).await;
    link.fence().await;
    assert_eq!((first.requests().len(), second.requests().len()), (3, 3));
    for job in jobs {
        link.cancel_and_silence(job).await;
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_hundred_bad_requests_open_no_breaker() {
    for status in [400, 500] {
        let backend = ScriptedBackend::new("box", &["m"]);
        backend.reply((0..100).map(|_| refusal(status)));
        let mut harness = Harness::builder().backend(&backend).start();
        let mut link = harness.connect().await;
        for _ in 0..100 {
            assert_eq!(ends(&mut link, "{}").await, Err(ErrorCode::Internal));
        }
        assert_eq!(ends(&mut link, "{}").await, Ok(()));
        assert_eq!(harness.snapshot().backends["box"].breaker_opened, 0);
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_that_takes_no_connection_has_its_breaker_opened_and_is_tried_again() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply((0..3).map(|_| Reply::Refuse));
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    for _ in 0..3 {
        assert_eq!(ends(&mut link, "{}").await, Err(ErrorCode::BackendUnreachable));
    }
    assert!(link.offered().await.is_empty(), "a model without a backend is not on offer");
    assert_eq!(ends(&mut link, "{}").await, Err(ErrorCode::ModelNotLoaded));
    assert_eq!(link.offered().await, ["m"], "the trial is due");
    assert_eq!(ends(&mut link, "{}").await, Ok(()));
    assert_eq!((backend.requests().len(), harness.snapshot().backends["box"].breaker_opened), (4, 1));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn messages_are_translated_for_a_backend_that_has_only_chat_completions() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_report(|report| report.models[0].endpoints = Endpoints::CHAT);
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer(Extensions::from_iter([Extension::Endpoints]));
    let mut link = harness.coordinator.welcome().await;
    let offer = link.capabilities().await.models.remove(0);
    assert!(offer.endpoints.unwrap().contains(Endpoint::Messages));
    let request = r#"{"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    for form in [AnswerForm::Stream, AnswerForm::Whole] {
        backend.reply([Reply::saying(Endpoint::ChatCompletions, "four")]);
        let job = link.send_job(&job_frame_at(Endpoint::Messages, form, "m", request));
        let asked = backend.request().await;
        assert_eq!(
            (asked.endpoint, asked.json()["messages"][0]["content"].as_str()),
            (Endpoint::ChatCompletions, Some("hi"))
        );
        let trace = link.outcome_of(job).await;
        assert_eq!(trace.done().tokens.output, 5);
        let text = String::from_utf8(trace.bytes).unwrap();
        let marks: &[&str] = match form {
            AnswerForm::Stream => &["event: message_start", "four", "event: message_stop"],
            AnswerForm::Whole => &[r#""type":"message""#, "four", "end_turn"],
        };
        assert!(marks.iter().all(|mark| text.contains(mark)), "{text}");
    }
    // What can't be translated is the caller's to hear, in the API's own shape.
    let job = link.send_job(&job_frame_at(Endpoint::Messages, AnswerForm::Stream, "m", r#"{"messages":7}"#));
    let trace = link.outcome_of(job).await;
    assert_eq!(trace.code(), ErrorCode::Internal);
    assert!(String::from_utf8(trace.bytes).unwrap().contains("invalid_request_error"));
    harness.stop().await;
}
