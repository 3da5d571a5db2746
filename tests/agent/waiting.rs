//! On a backend that says how busy it is, a cancelled job's slot is taken until it is known to be free, and others' work
//! counts.

use std::time::Duration;

use outpost::messages::wire::ErrorCode;
use outpost::testkit::{CoordinatorLink, Exit, Harness, Phase, Reply, ScriptedBackend, job_frame};
use tokio::time::Instant;

/// A backend with one slot that it reports, probed so often.
async fn agent(backend: &ScriptedBackend, every: Duration) -> (Harness, CoordinatorLink) {
    backend.set_report(|report| (report.slots, report.active_requests) = (Some(1), Some(0)));
    let mut harness =
        Harness::builder().backend(backend).settings(|settings| settings.discovery_interval = every).start();
    let link = harness.connect().await;
    (harness, link)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_waits_for_the_slot_of_a_cancelled_one_and_runs() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend, Duration::from_secs(30)).await;
    backend.reply([Reply::Hang]);
    let cancelled = link.job("m", "{}");
    backend.request().await;
    link.cancel_and_silence(cancelled).await;
    let waits = link.job("m", "{}");
    link.fence().await;
    assert_eq!(backend.requests().len(), 1);
    let twice = job_frame("m", "{}");
    link.send_job(&twice);
    link.cancel_and_silence(twice.job_id).await;
    link.outcome_of(waits).await.done();
    assert_eq!(backend.requests().len(), 2, "one that was cancelled as it waited never runs");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_waited_long_enough_is_refused_and_no_later_than_its_deadline() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend, Duration::from_secs(30)).await;
    backend.reply([Reply::Hang]);
    let cancelled = link.job("m", "{}");
    backend.request().await;
    backend.set_report(|report| report.active_requests = Some(1));
    link.cancel_and_silence(cancelled).await;
    let begun = Instant::now();
    let mut short = job_frame("m", "{}");
    short.deadline = Duration::from_millis(500);
    link.send_job(&short);
    let long = link.job("m", "{}");
    assert_eq!(link.outcome_of(short.job_id).await.code(), ErrorCode::BackendTimeout);
    assert!((500..510).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(link.outcome_of(long).await.code(), ErrorCode::OutOfCapacity);
    assert!((2000..2010).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(backend.requests().len(), 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_waiting_job_counts_as_accepted() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend, Duration::from_secs(30)).await;
    backend.reply_always(Reply::Hang);
    link.heartbeat().await;
    let mut until_then = job_frame("m", "{}");
    until_then.deadline = Duration::from_secs(14);
    link.send_job(&until_then);
    assert_eq!(link.outcome_of(until_then.job_id).await.code(), ErrorCode::BackendTimeout);
    let cancelled = link.job("m", "{}");
    harness.until(|state| state.in_flight == 1).await;
    backend.set_report(|report| report.active_requests = Some(1));
    link.cancel_and_silence(cancelled).await;
    let waits = link.job("m", "{}");
    let heartbeat = link.heartbeat().await;
    assert_eq!((heartbeat.queue_depth, heartbeat.error_rate_60s), (1, 1.0));
    assert_eq!(link.outcome_of(waits).await.code(), ErrorCode::OutOfCapacity);
    let heartbeat = link.heartbeat().await;
    assert_eq!((heartbeat.queue_depth, heartbeat.last_error_code), (0, Some(ErrorCode::OutOfCapacity)));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_waiting_job_is_finished_after_a_drain_begins() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend, Duration::from_secs(30)).await;
    backend.reply([Reply::Hang]);
    let cancelled = link.job("m", "{}");
    backend.request().await;
    backend.set_report(|report| report.active_requests = Some(1));
    link.cancel_and_silence(cancelled).await;
    let waits = link.job("m", "{}");
    link.fence().await;
    harness.drain();
    harness.until(|state| state.phase == Phase::Draining).await;
    let late = link.job("m", "{}");
    assert_eq!(link.outcome_of(late).await.code(), ErrorCode::OutOfCapacity);
    backend.set_report(|report| report.active_requests = Some(0));
    link.outcome_of(waits).await.done();
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_waiting_job_is_refused_when_running_jobs_are_ended() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend, Duration::from_secs(30)).await;
    backend.reply([Reply::Hang]);
    let cancelled = link.job("m", "{}");
    backend.request().await;
    link.cancel_and_silence(cancelled).await;
    let waits = link.job("m", "{}");
    link.fence().await;
    let told = Instant::now();
    harness.drain();
    harness.drain();
    assert_eq!(link.outcome_of(waits).await.code(), ErrorCode::OutOfCapacity);
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert!(told.elapsed() < Duration::from_millis(10), "{:?}", told.elapsed());
    assert_eq!((harness.exit().await, backend.requests().len()), (Exit::Drained, 1));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_waiting_job_ends_with_its_connection() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend, Duration::from_secs(30)).await;
    backend.reply([Reply::Hang]);
    let cancelled = link.job("m", "{}");
    backend.request().await;
    link.cancel_and_silence(cancelled).await;
    link.job("m", "{}");
    link.fence().await;
    assert_eq!(backend.requests().len(), 1);
    drop(link);
    let mut next = harness.connect().await;
    next.heartbeat().await;
    assert!(next.unread_messages().is_empty());
    assert_eq!(backend.requests().len(), 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_work_of_other_clients_shrinks_the_offer_until_it_ends() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_report(|report| (report.slots, report.active_requests) = (Some(4), Some(0)));
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    for (busy, offered) in [(3, Some(1)), (4, None), (0, Some(4))] {
        backend.set_report(|report| report.active_requests = Some(busy));
        let models = link.capabilities().await.models;
        assert_eq!(models.first().map(|model| model.max_concurrent), offered);
    }
    harness.stop().await;
}
