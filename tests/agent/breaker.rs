//! A backend that fails its jobs has its breaker opened and is not offered. Client errors do not count.

use std::time::Duration;

use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::ErrorCode;
use outpost::testkit::{CoordinatorLink, Harness, Reply, ScriptedBackend};
use tokio::time::Instant;

async fn agent(backend: &ScriptedBackend) -> (Harness, CoordinatorLink) {
    let mut harness = Harness::builder().backend(backend).start();
    let link = harness.connect().await;
    (harness, link)
}

/// Three jobs for which a backend takes no connection.
async fn fails_three(link: &mut CoordinatorLink) {
    for _ in 0..3 {
        let job = link.job("m", "{}");
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::BackendUnreachable);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_hundred_bad_responses_open_no_breaker_of_an_only_backend() {
    let error = "data: {\"error\":{\"message\":\"too long\",\"type\":\"BadRequestError\",\"code\":400}}\n\n";
    let statuses = [400, 404, 413, 422, 429, 500, 502, 503, 504].map(|status| Reply::Status(status, "{}".into()));
    for reply in statuses.into_iter().chain([Reply::pieces(&[error, "data: [DONE]\n\n"])]) {
        let backend = ScriptedBackend::new("box", &["m"]);
        let (harness, mut link) = agent(&backend).await;
        backend.reply(std::iter::repeat_n(reply, 100));
        for _ in 0..100 {
            let job = link.job("m", "{}");
            link.outcome_of(job).await.error();
        }
        let job = link.job("m", "{}");
        link.outcome_of(job).await.done();
        assert_eq!(backend.requests().len(), 101);
        assert!(link.unread_messages().is_empty(), "the offer did not change");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_that_crash_every_backend_withdraw_the_model_from_no_other_job() {
    let backends = ["a", "b", "c"].map(|name| ScriptedBackend::new(name, &["m"]));
    let builder = backends.iter().fold(Harness::builder(), |builder, backend| builder.backend(backend));
    let mut harness = builder.start();
    let mut link = harness.connect().await;
    backends.iter().for_each(|backend| backend.reply_always(Reply::Break));
    for poisoned in 1..=5 {
        let job = link.job("m", "{}");
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::BackendUnreachable);
        let requests: usize = backends.iter().map(|backend| backend.requests().len()).sum();
        assert_eq!(requests, 2 * poisoned, "after the second crash the job is at fault, and is tried no more");
    }
    backends.iter().for_each(|backend| backend.reply_always(Reply::saying(Endpoint::ChatCompletions, "well")));
    let job = link.job("m", "{}");
    link.outcome_of(job).await.done();
    assert!(link.unread_messages().is_empty(), "the offer did not change");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_that_takes_no_connection_is_withdrawn_and_a_trial_brings_it_back() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    backend.reply(std::iter::repeat_n(Reply::Refuse, 3));
    fails_three(&mut link).await;
    let opened = Instant::now();
    assert!(link.offered().await.is_empty());
    assert!(opened.elapsed() < Duration::from_millis(10));
    let kept = link.job("m", "{}");
    assert_eq!(link.outcome_of(kept).await.code(), ErrorCode::ModelNotLoaded);
    assert_eq!(backend.requests().len(), 3);

    let offer = link.capabilities().await.models;
    assert_eq!((offer[0].max_concurrent, opened.elapsed().as_secs()), (1, 4), "a trial");
    let trial = link.job("m", "{}");
    link.outcome_of(trial).await.done();
    assert_eq!(link.capabilities().await.models[0].max_concurrent, 8);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_trial_that_fails_withdraws_it_and_the_next_one_is_due_by_itself() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    backend.reply(std::iter::repeat_n(Reply::Refuse, 6));
    fails_three(&mut link).await;
    // The first change is announced at once; later the offer of the trial is announced just before.
    for (told, cool_down) in [(0, 4), (2, 8), (2, 16)] {
        let failed = Instant::now();
        assert!(link.offered().await.is_empty());
        assert_eq!(failed.elapsed().as_secs(), told);
        let kept = link.job("m", "{}");
        assert_eq!(link.outcome_of(kept).await.code(), ErrorCode::ModelNotLoaded);
        assert_eq!(link.offered().await, ["m"]);
        assert_eq!(failed.elapsed().as_secs(), cool_down);
        let trial = link.job("m", "{}");
        assert_eq!(link.outcome_of(trial).await.code(), ErrorCode::BackendUnreachable);
    }
    assert!(link.offered().await.is_empty());
    assert_eq!(link.offered().await, ["m"]);
    let trial = link.job("m", "{}");
    link.outcome_of(trial).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_withdrawal_is_announced_even_right_after_another_change() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness =
        Harness::builder().backend(&backend).settings(|s| s.discovery_interval = Duration::from_millis(100)).start();
    let mut link = harness.connect().await;
    backend.set_report(|report| report.slots = Some(3));
    assert_eq!(link.capabilities().await.models[0].max_concurrent, 3);
    backend.reply(std::iter::repeat_n(Reply::Refuse, 3));
    let opened = Instant::now();
    fails_three(&mut link).await;
    assert!(link.offered().await.is_empty());
    assert_eq!(opened.elapsed().as_secs(), 2);
    assert_eq!(link.offered().await, ["m"]);
    assert_eq!(opened.elapsed().as_secs(), 4);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn changes_are_announced_two_seconds_apart_and_the_last_one_is_not_lost() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness =
        Harness::builder().backend(&backend).settings(|s| s.discovery_interval = Duration::from_millis(100)).start();
    let mut link = harness.connect().await;
    backend.set_report(|report| report.slots = Some(1));
    let mut told = vec![link.capabilities().await.models[0].max_concurrent];
    let first = Instant::now();
    for slots in 2..6 {
        backend.set_report(|report| report.slots = Some(slots));
        backend.probed(backend.probes() + 1).await;
    }
    told.push(link.capabilities().await.models[0].max_concurrent);
    assert!((2000..2010).contains(&first.elapsed().as_millis()), "{:?}", first.elapsed());
    for _ in 0..2 {
        link.heartbeat().await;
    }
    assert!(link.unread_messages().is_empty());
    assert_eq!(told, [1, 5]);
    harness.stop().await;
}
