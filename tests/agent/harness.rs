//! The harness fails a test that leaks or breaks the protocol, and reports what it waited for in vain.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use outpost::internals::{JobEnded, Outcome, Ticket};
use outpost::testkit::{Clock, Harness, Recorder, Reply, ScriptedBackend, TIMEOUT};
use tokio::time::Instant;

/// What a test that does this fails with.
async fn fails_with(test: impl Future<Output = ()>) -> String {
    let failure = AssertUnwindSafe(test).catch_unwind().await.expect_err("the test fails");
    let text = failure.downcast_ref::<String>().cloned();
    text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_test_that_forgets_to_stop_its_agent_fails() {
    let failure = fails_with(async {
        let mut harness = Harness::builder().start();
        harness.connect().await;
    })
    .await;
    assert!(failure.contains("did not stop its agent"), "{failure}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_wait_in_vain_reports_what_it_waited_for_and_takes_no_time() {
    let begun = std::time::SystemTime::now();
    let failure = fails_with(async {
        let mut harness = Harness::builder().start();
        let mut link = harness.connect().await;
        let virtually = Instant::now();
        let job = link.job("no-such-model", "{}");
        link.outcome_of(job).await;
        assert!(virtually.elapsed() < TIMEOUT);
        link.chunk_of(job).await;
    })
    .await;
    assert!(failure.contains("in vain for a chunk of the job"), "{failure}");
    assert!(begun.elapsed().unwrap() < Duration::from_secs(20));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_breaks_the_protocol_fails_the_test() {
    // The harness holds a connection to its own jobs: a job that another one sent must not appear on it.
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let failure = fails_with(async {
        let mut harness = Harness::builder().backend(&backend).start();
        let mut link = harness.connect().await;
        let job = link.job("m", "{}");
        let request = backend.request().await;
        link.silence(job);
        request.head();
        request.piece("data: {}\n\n");
        link.fence().await;
        harness.stop().await;
    })
    .await;
    assert!(failure.contains("broke the protocol"), "{failure}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_works_with_a_running_clock() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().clock(Clock::Unchanged).backend(&backend).start();
    let mut link = harness.connect().await;
    let job = link.job("m", "{}");
    link.outcome_of(job).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_recorder_keeps_messages_in_order() {
    let (recipient, mut recorded) = Recorder::<JobEnded>::start();
    for number in 0..3 {
        let ticket = Ticket(number);
        recipient.do_send(JobEnded { ticket, outcome: Outcome::Cancelled, duration: Duration::ZERO });
    }
    assert_eq!(recorded.next().await.ticket, Ticket(0));
    assert_eq!(recorded.next().await.ticket, Ticket(1));
    assert_eq!(recorded.next().await.ticket, Ticket(2));
    assert!(recorded.unread().is_empty());
}
