//! Every 15 seconds the coordinator hears how the agent fares.

use std::time::Duration;

use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::{ErrorCode, Heartbeat};
use outpost::testkit::{Harness, Reply, ScriptedBackend, answer};
use tokio::time::Instant;

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_first_one_comes_after_fifteen_seconds_and_then_one_each_fifteen() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    let up = Instant::now();
    for beat in 1..=8 {
        let heartbeat = link.heartbeat().await;
        assert_eq!(up.elapsed().as_secs(), beat * 15);
        assert_eq!(heartbeat, Heartbeat::default(), "nothing happened: zeros and nulls");
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn its_figures_are_those_of_the_jobs_of_the_last_minute() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let whole = |tokens| Reply::Stream(answer(Endpoint::ChatCompletions, "hi", 1, tokens));
    let after = |seconds, reply| Reply::After(Duration::from_secs(seconds), Box::new(reply));
    backend.reply([after(2, whole(20)), after(4, whole(80)), after(1, Reply::Refuse), Reply::Hang]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    for _ in 0..3 {
        let job = link.job("m", "{}");
        link.outcome_of(job).await;
    }
    link.job("m", "{}");

    let heartbeat = link.heartbeat().await;
    assert_eq!(heartbeat.queue_depth, 1);
    assert!((9.9..=10.0).contains(&heartbeat.tokens_per_sec_p50), "the lower one of 10 and 20 a second: {heartbeat:?}");
    assert!((2000..2010).contains(&heartbeat.p50_latency_ms), "{heartbeat:?}");
    assert!((4000..4010).contains(&heartbeat.p95_latency_ms), "{heartbeat:?}");
    assert_eq!(heartbeat.error_rate_60s, 1.0 / 3.0);
    assert_eq!(heartbeat.last_error_code, Some(ErrorCode::BackendUnreachable));
    assert!(heartbeat.last_error_at.is_some());

    // The job that hangs meets its deadline of a minute in between.
    for _ in 0..8 {
        link.heartbeat().await;
    }
    let later = link.heartbeat().await;
    assert_eq!((later.queue_depth, later.error_rate_60s, later.p95_latency_ms), (0, 0.0, 0), "a minute is over");
    assert_eq!(later.last_error_code, Some(ErrorCode::BackendTimeout), "and the last error is not forgotten");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_connection_has_its_own() {
    let mut harness = Harness::builder().start();
    let mut first = harness.connect().await;
    first.heartbeat().await;
    drop(first);
    let mut second = harness.connect().await;
    let up = Instant::now();
    second.heartbeat().await;
    assert_eq!(up.elapsed().as_secs(), 15);
    second.heartbeat().await;
    assert_eq!(up.elapsed().as_secs(), 30, "one at a time");
    harness.stop().await;
}
