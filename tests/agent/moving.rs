//! A job that fails before its first response byte is retried on another backend; any other failure ends it.

use std::time::Duration;

use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::ErrorCode;
use outpost::testkit::{CoordinatorLink, Harness, Reply, ScriptedBackend, StreamFault, answer, job_frame};
use tokio::time::Instant;

/// So many backends of one model, named in the order in which idle ones are chosen.
fn backends<const N: usize>() -> [ScriptedBackend; N] {
    std::array::from_fn(|place| ScriptedBackend::new(&format!("box{place}"), &["m"]))
}

async fn agent(backends: &[ScriptedBackend]) -> (Harness, CoordinatorLink) {
    let mut harness = backends.iter().fold(Harness::builder(), |builder, backend| builder.backend(backend)).start();
    let link = harness.connect().await;
    (harness, link)
}

fn requests(backends: &[ScriptedBackend]) -> Vec<usize> {
    backends.iter().map(|backend| backend.requests().len()).collect()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_failure_that_another_backend_may_not_have_is_retried_there() {
    let statuses = [429, 502, 503, 504].map(|status| Reply::Status(status, "{}".into()));
    let broken = [StreamFault::Truncate, StreamFault::Break].map(|fault| Reply::StreamThen(Vec::new(), fault));
    for reply in [Reply::Refuse, Reply::Garble].into_iter().chain(statuses).chain(broken) {
        let backends = backends::<2>();
        let (mut harness, mut link) = agent(&backends).await;
        backends[0].reply([reply.clone()]);
        let job = link.job("m", r#"{"user":"u"}"#);
        let trace = link.outcome_of(job).await;
        trace.done();
        assert_eq!(trace.bytes, answer(Endpoint::ChatCompletions, "hello", 3, 5).concat());
        assert_eq!(requests(&backends), [1, 1], "{reply:?}");
        assert_eq!(backends[0].requests()[0].body, backends[1].requests()[0].body);
        let state = harness.until(|state| state.in_flight == 0).await;
        assert_eq!((state.jobs.admitted, state.jobs.done, state.jobs.failed.len()), (1, 1, 0));
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_is_tried_three_times_at_most() {
    let backends = backends::<5>();
    let (harness, mut link) = agent(&backends).await;
    backends.iter().for_each(|backend| backend.reply([Reply::Refuse]));
    let job = link.job("m", "{}");
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::BackendUnreachable);
    assert_eq!(requests(&backends), [1, 1, 1, 0, 0]);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_failure_of_the_caller_or_of_unknown_cause_is_not_retried() {
    for status in [400, 401, 403, 413, 422, 500] {
        let backends = backends::<2>();
        let (harness, mut link) = agent(&backends).await;
        backends[0].reply([Reply::Status(status, "{}".into())]);
        let job = link.job("m", "{}");
        link.outcome_of(job).await.error();
        assert_eq!(requests(&backends), [1, 0], "{status}");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_is_not_retried_once_a_byte_was_sent() {
    for fault in [StreamFault::Truncate, StreamFault::Break] {
        let backends = backends::<2>();
        let (harness, mut link) = agent(&backends).await;
        backends[0].reply([Reply::StreamThen(vec![": ping\n\n".into()], fault)]);
        let job = link.job("m", "{}");
        let trace = link.outcome_of(job).await;
        assert_eq!((trace.code(), trace.bytes.as_slice()), (ErrorCode::Internal, &b": ping\n\n"[..]));
        assert_eq!(requests(&backends), [1, 0]);
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_deadline_counts_over_all_tries() {
    let backends = backends::<2>();
    let (harness, mut link) = agent(&backends).await;
    backends[0].reply([Reply::After(Duration::from_secs(4), Box::new(Reply::Refuse))]);
    backends[1].reply([Reply::Hang]);
    let mut job = job_frame("m", "{}");
    job.deadline = Duration::from_secs(6);
    let sent = Instant::now();
    link.send_job(&job);
    assert_eq!(link.outcome_of(job.job_id).await.code(), ErrorCode::BackendTimeout);
    assert_eq!((sent.elapsed().as_secs(), requests(&backends)), (6, vec![1, 1]));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn no_try_begins_once_the_deadline_has_passed() {
    let backends = backends::<2>();
    let (harness, mut link) = agent(&backends).await;
    backends[0].reply([Reply::After(Duration::from_secs(6), Box::new(Reply::Refuse))]);
    let mut job = job_frame("m", "{}");
    job.deadline = Duration::from_secs(6);
    link.send_job(&job);
    assert_eq!(link.outcome_of(job.job_id).await.code(), ErrorCode::BackendTimeout);
    assert_eq!(requests(&backends), [1, 0]);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancel_during_a_retry_silences_the_job() {
    let backends = backends::<2>();
    let (mut harness, mut link) = agent(&backends).await;
    backends[1].reply_always(Reply::Hang);
    for round in 0..200 {
        backends[0].reply_always(Reply::Turns(round % 11, Box::new(Reply::Status(429, "{}".into()))));
        let job = link.job("m", "{}");
        for _ in 0..round % 13 {
            tokio::task::yield_now().await;
        }
        link.cancel_and_silence(job).await;
    }
    let state = harness.until(|state| state.in_flight == 0).await;
    assert_eq!((state.jobs.admitted, state.jobs.cancelled), (200, 200));
    assert!(!backends[1].requests().is_empty(), "some had moved");
    link.fence().await;
    assert_eq!(backends.iter().map(ScriptedBackend::open).sum::<usize>(), 0);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_retried_job_ends_with_its_connection() {
    let backends = backends::<2>();
    let (mut harness, link) = agent(&backends).await;
    backends[0].reply([Reply::Refuse]);
    backends[1].reply([Reply::Hang]);
    link.job("m", "{}");
    let mut moved = backends[1].request().await;
    drop(link);
    moved.dropped().await;
    let mut next = harness.connect().await;
    next.fence().await;
    assert!(next.unread_messages().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn equal_backends_share_the_load_and_a_conversation_stays() {
    let backends = backends::<2>();
    let (harness, mut link) = agent(&backends).await;
    backends.iter().for_each(|backend| backend.reply([Reply::Hang, Reply::Hang, Reply::Hang]));
    let jobs = [(); 6].map(|()| link.job("m", "{}"));
    link.fence().await;
    assert_eq!(requests(&backends), [3, 3]);
    for job in jobs {
        link.cancel_and_silence(job).await;
    }
    // One job on the first makes the second the less loaded, which serves the conversation then.
    backends[0].reply([Reply::Hang]);
    let other = link.job("m", "{}");
    backends[0].request().await;
    let turn = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "long ago ".repeat(100));
    let first = link.job("m", &turn);
    link.outcome_of(first).await.done();
    link.cancel_and_silence(other).await;
    let second = link.job("m", &turn);
    link.outcome_of(second).await.done();
    assert_eq!(requests(&backends), [4, 5]);
    harness.stop().await;
}
