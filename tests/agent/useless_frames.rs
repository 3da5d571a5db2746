//! The number of events for skipped frames is bounded, however many frames are skipped.

use bytes::Bytes;
use outpost::telemetry::Event;
use outpost::testkit::{Harness, Reply, ScriptedBackend, order};
use outpost::transport::websocket::codec::Frame;

/// Events of single skipped frames so far, and how many frames were counted in others.
fn skipped(harness: &Harness) -> (usize, Vec<u64>) {
    let events = harness.events();
    let each = events.iter().filter(|entry| matches!(entry.event, Event::FrameSkipped { .. })).count();
    let counted = events.iter().filter_map(|entry| match &entry.event {
        Event::MoreFramesSkipped(more) => Some(more.count),
        _ => None,
    });
    (each, counted.collect())
}

#[actix_rt::test]
async fn ten_thousand_skipped_frames_make_ten_events_and_one_count_a_minute() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::Hang]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let runs = order("m", "{}");
    link.send_job(&runs);
    backend.request().await;
    for _ in 0..2_500 {
        link.send_frame(&Frame::Binary(Bytes::from_static(b"x")));
        link.send_text("nonsense");
        link.send_text(r#"{"type":"auth_ok"}"#);
        link.send_job(&runs);
    }
    link.fence().await;
    assert_eq!(skipped(&harness), (10, Vec::new()));
    harness.until(|state| state.frames_skipped == 10_000).await;
    assert_eq!(skipped(&harness), (10, vec![9_990]));
    // In the next minute single ones are shown again.
    link.send_text("nonsense");
    link.fence().await;
    assert_eq!(skipped(&harness), (11, vec![9_990]));
    harness.stop().await;
}

#[actix_rt::test]
async fn the_count_of_skipped_frames_is_reported_when_the_connection_ends() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    (0..12).for_each(|_| link.send_text("nonsense"));
    link.fence().await;
    link.close(Some(1001), "drain:deploy");
    harness.connect().await;
    assert_eq!((skipped(&harness), harness.snapshot().frames_skipped), ((10, vec![2]), 12));
    harness.stop().await;
}
