//! Jobs end with their connection: at the backend at once, and no frame about them is sent on the next connection.

use std::time::Duration;

use bytes::Bytes;
use outpost::messages::endpoint::Endpoint;
use outpost::testkit::{CoordinatorLink, Harness, LinkFault, Reply, ScriptedBackend, answer, job_frame};
use tokio::time::Instant;

/// Two jobs run, one of them half done, as `script` ends the connection.
async fn loses_jobs(script: impl AsyncFnOnce(&mut CoordinatorLink)) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand, Reply::Hang]);
    let mut harness = Harness::builder().backend(&backend).max_concurrent(2).start();
    let mut link = harness.connect().await;
    let first = job_frame("m", "{}");
    link.send_job(&first);
    let mut half = backend.request().await;
    half.head();
    half.piece("data: {}\n\n");
    link.chunk_of(first.job_id).await;
    link.job("m", "{}");
    let mut unanswered = backend.request().await;

    script(&mut link).await;
    let lost = Instant::now();
    half.dropped().await;
    unanswered.dropped().await;
    assert!(lost.elapsed() < Duration::from_millis(10), "{:?}", lost.elapsed());
    let state = harness.until(|state| state.in_flight == 0).await;
    assert_eq!(state.jobs.cancelled, 2);

    // The harness holds each connection to the jobs that it sent itself.
    let mut next = harness.connect().await;
    next.fence().await;
    assert!(next.unread_messages().is_empty());
    next.send_job(&first);
    next.outcome_of(first.job_id).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_end_with_a_close_frame() {
    loses_jobs(async |link: &mut CoordinatorLink| {
        link.close(Some(1001), "drain:deploy");
        link.ended().await;
    })
    .await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_end_with_the_stream() {
    for fault in [LinkFault::HangUp, LinkFault::Reset] {
        loses_jobs(async |link: &mut CoordinatorLink| link.fail(fault)).await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_end_with_a_violation() {
    loses_jobs(async |link: &mut CoordinatorLink| link.send_raw_bytes(&[0xff; 2])).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn what_was_queued_for_a_connection_is_not_sent_on_the_next_one() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    link.fail(LinkFault::StopReading);
    let mut pieces = vec![Bytes::from(vec![b'\n'; 192 * 1024])];
    pieces.extend(answer(Endpoint::ChatCompletions, "end", 1, 1));
    backend.reply([Reply::Stream(pieces)]);
    link.job("m", "{}");
    backend.request().await.finished().await;
    let refused = link.job("no-such-model", "{}");
    link.fail(LinkFault::Reset);
    let mut next = harness.connect().await;
    for _ in 0..3 {
        next.heartbeat().await;
    }
    next.fence().await;
    assert!(next.unread_messages().is_empty(), "neither the job nor the refusal of {refused}");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_after_the_loss_is_not_sent() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::After(Duration::from_secs(20), Box::new(Reply::saying(Endpoint::ChatCompletions, "late")))]);
    let mut harness = Harness::builder().backend(&backend).start();
    let link = harness.connect().await;
    link.job("m", "{}");
    let mut request = backend.request().await;
    drop(link);
    request.dropped().await;
    let mut next = harness.connect().await;
    for _ in 0..4 {
        next.heartbeat().await;
    }
    assert!(next.unread_messages().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn fifty_connections_leave_nothing_behind() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::Hang);
    let mut harness = Harness::builder().backend(&backend).max_concurrent(1).start();
    let mut living = None;
    for _ in 0..50 {
        let mut link = harness.connect().await;
        link.job("m", "{}");
        let mut request = backend.request().await;
        link.fence().await;
        let now = harness.living();
        assert_eq!(*living.get_or_insert(now), now);
        drop(link);
        request.dropped().await;
    }
    let state = harness.until(|state| state.in_flight == 0).await;
    assert_eq!((state.jobs.admitted, state.jobs.cancelled, backend.peak()), (50, 50, 1));
    harness.stop().await;
}
