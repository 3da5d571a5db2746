//! A bug costs what it touched and no more: each actor that panics is replaced, until too many do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use outpost::messages::ids::{BackendId, Generation};
use outpost::messages::wire::ErrorCode;
use outpost::testkit::{
    BackendPolicy, Child, CloseKind, DialFault, Event, Exit, Frame, Harness, Health, Reply, ScriptedBackend,
    StreamFault,
};

fn replaced(event: &Event) -> Option<Child> {
    match event {
        Event::ChildReplaced(replaced) => Some(replaced.child.clone()),
        _ => None,
    }
}

/// A trap that springs at the first such event only.
fn once(wanted: impl Fn(&Event) -> bool + Send + Sync + 'static) -> impl Fn(&Event) -> bool + Send + Sync + 'static {
    let sprung = AtomicUsize::new(0);
    move |event| wanted(event) && sprung.fetch_add(1, Ordering::AcqRel) == 0
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_workers_panic_costs_one_job() {
    let half = vec![Bytes::from_static(b"data: {}\n\n")];
    for (reply, relayed) in [(Reply::Panic, 0), (Reply::StreamThen(half, StreamFault::Panic), 10)] {
        let backend = ScriptedBackend::new("box", &["m"]);
        backend.reply([Reply::ByHand, reply]);
        let mut harness = Harness::builder().backend(&backend).max_concurrent(2).start();
        let mut link = harness.connect().await;
        let other = link.job("m", "{}");
        let request = backend.request().await;
        let job = link.job("m", "{}");
        let error = link.outcome_of(job).await.error().clone();
        assert_eq!((error.error_code, error.tokens_emitted), (ErrorCode::Internal, relayed));
        let lost = |event: &Event| matches!(event, Event::WorkerLost { .. }).then_some(());
        harness.event(lost).await;

        let next = link.job("m", "{}");
        link.outcome_of(next).await.done();
        request.head();
        request.piece("data: [DONE]\n\n");
        request.end();
        link.outcome_of(other).await.done();
        assert_eq!(harness.until(|state| state.in_flight == 0).await.connections, 1);
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn workers_may_panic_any_number_of_times() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::Panic);
    let mut harness = Harness::builder().backend(&backend).max_concurrent(1).start();
    let mut link = harness.connect().await;
    for _ in 0..30 {
        let job = link.job("m", "{}");
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_pools_panic_costs_the_jobs_of_its_backend() {
    let [broken, whole] = ["broken", "whole"].map(|name| ScriptedBackend::new(name, &[name]));
    broken.reply([Reply::ByHand, Reply::ByHand]);
    whole.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&broken).backend(&whole).start();
    let mut link = harness.connect().await;
    let first = link.job("broken", "{}");
    let mut request = broken.request().await;
    let elsewhere = link.job("whole", "{}");
    let spared = whole.request().await;
    // The name is asked for as a worker is started: for the second job.
    broken.panic_at_name();
    let second = link.job("broken", "{}");
    assert_eq!(harness.event(replaced).await, Child::Pool(BackendId::from("broken")));
    for job in [first, second] {
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
    }
    request.dropped().await;

    spared.head();
    spared.piece("data: [DONE]\n\n");
    spared.end();
    link.outcome_of(elsewhere).await.done();
    broken.reply([]);
    broken.reply_always(Reply::pieces(&["data: [DONE]\n\n"]));
    let third = link.job("whole", "{}");
    link.outcome_of(third).await.done();
    assert_eq!(harness.until(|state| state.in_flight == 0).await.connections, 1);
    assert!(link.unread_messages().is_empty(), "what is on offer did not change, and is not announced again");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_new_discovery_probes_everything_again() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let mut job = outpost::testkit::job_frame("m", "{}");
    job.deadline = Duration::from_secs(3600);
    link.send_job(&job);
    let request = backend.request().await;
    backend.set_health(Health::PanickingOnce);
    backend.set_models(&["m", "n"]);
    assert_eq!(harness.event(replaced).await, Child::Discovery);
    assert_eq!(link.offered().await, ["m", "n"]);
    request.head();
    request.piece("data: [DONE]\n\n");
    request.end();
    link.outcome_of(job.job_id).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_policy_that_panics_ends_discovery() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let asked = Arc::new(AtomicUsize::new(0));
    let policy = {
        let asked = Arc::clone(&asked);
        move |_: &BackendId, _| {
            assert!(asked.fetch_add(1, Ordering::AcqRel) > 0, "the policy panics, as the test wants it");
            BackendPolicy::default()
        }
    };
    let mut harness = Harness::builder().backend(&backend).policy(policy).start();
    let mut link = harness.coordinator.welcome().await;
    assert_eq!(harness.event(replaced).await, Child::Discovery);
    assert_eq!(link.offered().await, ["m"]);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_routers_panic_costs_its_connection() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::Hang]);
    let trap = once(|event| matches!(event, Event::JobRefused { .. }));
    let mut harness = Harness::builder().backend(&backend).panic_at(trap).start();
    let mut link = harness.connect().await;
    link.job("m", "{}");
    let mut request = backend.request().await;
    link.job("no-such-model", "{}");
    request.dropped().await;
    link.ended().await;
    assert_eq!(harness.event(replaced).await, Child::Router);

    let mut next = harness.connect().await;
    let job = next.job("m", "{}");
    next.outcome_of(job).await.done();
    next.fence().await;
    assert_eq!(harness.snapshot().generation, 2);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connections_panic_is_handled_like_any_end() {
    let mut harness = Harness::builder().start();
    harness.coordinator.fail_dials([DialFault::Panics, DialFault::Panics]);
    for generation in 1..=2 {
        assert_eq!(harness.event(replaced).await, Child::Connection(Generation::numbered(generation)));
        let failures = |event: &Event| match event {
            Event::ConnectFailed(failed) => Some(failed.failures),
            _ => None,
        };
        assert_eq!(u64::from(harness.event(failures).await), generation);
    }
    harness.connect().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_panic_in_an_open_connection_ends_its_jobs() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::Hang]);
    let trap = once(|event| matches!(event, Event::FrameSkipped { .. }));
    let mut harness = Harness::builder().backend(&backend).panic_at(trap).start();
    let mut link = harness.connect().await;
    link.job("m", "{}");
    let mut request = backend.request().await;
    link.send_frame(&Frame::Binary(Bytes::from_static(b"x")));
    request.dropped().await;
    link.ended().await;
    assert_eq!(harness.event(replaced).await, Child::Connection(Generation::numbered(1)));
    let lost = |event: &Event| match event {
        Event::Disconnected(disconnected) => Some(disconnected.cause.kind()),
        _ => None,
    };
    assert_eq!(harness.event(lost).await, CloseKind::Unexpected);
    let mut next = harness.connect().await;
    let job = next.job("m", "{}");
    next.outcome_of(job).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn when_actors_end_faster_than_they_can_be_replaced_the_agent_gives_up() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_health(Health::Panicking);
    let mut harness = Harness::builder().backend(&backend).start();
    assert_eq!(harness.exit().await, Exit::GaveUp);
    let ends = harness.events().iter().filter_map(|entry| replaced(&entry.event)).count();
    assert_eq!(ends, 11, "ten within a minute are put up with");
    assert!(harness.events().iter().any(|entry| matches!(entry.event, Event::GivingUp(_))));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn ten_panics_a_minute_are_tolerated_for_ever() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder()
        .backend(&backend)
        .settings(|settings| settings.discovery_interval = Duration::from_secs(7))
        .start();
    let mut link = harness.connect().await;
    for _ in 0..40 {
        backend.set_health(Health::PanickingOnce);
        assert_eq!(harness.event(replaced).await, Child::Discovery);
    }
    link.fence().await;
    assert_eq!(harness.snapshot().connections, 1);
    harness.stop().await;
}
