//! The number of log lines for events that the coordinator can cause at will is bounded.

use bytes::Bytes;
use outpost::testkit::{Event, Frame, Harness, Reply, ScriptedBackend, job_frame};

/// Of which events there were more than are logged one by one, and how many more.
fn counted(event: &Event) -> Option<(&'static str, u64)> {
    match event {
        Event::Repeated(repeated) => Some((repeated.what, repeated.count)),
        _ => None,
    }
}

fn counts(harness: &Harness) -> Vec<(&'static str, u64)> {
    harness.events().iter().filter_map(|entry| counted(&entry.event)).collect()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn of_ten_thousand_skipped_frames_a_minute_all_but_ten_are_counted_in_one_line() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::Hang]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let runs = job_frame("m", "{}");
    link.send_job(&runs);
    backend.request().await;
    for _ in 0..2_500 {
        link.send_frame(&Frame::Binary(Bytes::from_static(b"x")));
        link.send_text("nonsense");
        link.send_text(r#"{"type":"auth_ok"}"#);
        link.send_job(&runs);
    }
    link.fence().await;
    assert_eq!((counts(&harness), harness.snapshot().frames_skipped), (vec![], 10_000));
    assert_eq!(harness.event(counted).await, ("frame skipped", 9_990));
    // In the next minute single ones are logged again.
    link.send_text("nonsense");
    link.fence().await;
    link.close(Some(1001), "drain:deploy");
    harness.connect().await;
    assert_eq!(counts(&harness), [("frame skipped", 9_990)]);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_count_is_reported_when_the_connection_ends() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    (0..12).for_each(|_| link.send_text("nonsense"));
    link.fence().await;
    link.close(Some(1001), "drain:deploy");
    harness.connect().await;
    assert_eq!((counts(&harness), harness.snapshot().frames_skipped), (vec![("frame skipped", 2)], 12));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn refused_jobs_are_counted_too() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    for _ in 0..25 {
        let job = link.job("not on offer", "{}");
        link.outcome_of(job).await.code();
    }
    link.close(Some(1001), "drain:deploy");
    harness.connect().await;
    let refused: u64 = harness.snapshot().jobs.refused.values().sum();
    assert_eq!((counts(&harness), refused), (vec![("job refused", 15)], 25));
    harness.stop().await;
}
