//! However a connection ends, the next one comes: after the wait that belongs to that end.

use std::time::Duration;

use bytes::Bytes;
use log::Level;
use outpost::testkit::{
    CloseKind, CoordinatorLink, DialError, DialFault, Event, Frame, Harness, LinkFault, Phase, UpgradeFault,
};
use tokio::time::Instant;

fn disconnected(event: &Event) -> Option<(CloseKind, Level)> {
    match event {
        Event::Disconnected(disconnected) => Some((disconnected.cause.kind(), event.level())),
        _ => None,
    }
}

fn failure(event: &Event) -> Option<(u32, Level)> {
    match event {
        Event::ConnectFailed(failed) => Some((failed.failures, event.level())),
        _ => None,
    }
}

fn wait(event: &Event) -> Option<Duration> {
    match event {
        Event::Retrying(retrying) => Some(retrying.wait),
        _ => None,
    }
}

/// The wait is the base times a factor in [0.8, 1.2).
fn assert_wait(wait: Duration, base: u64) {
    let base = Duration::from_secs(base);
    assert!(wait >= base * 4 / 5 && wait < base * 6 / 5, "{wait:?} is not a wait of {base:?}");
}

/// How an established connection ends by what `script` does. After two failures before it, so that a wait set back to its
/// start can be told from one that was not.
async fn ends_by(script: impl AsyncFnOnce(&mut CoordinatorLink)) -> (CloseKind, Level) {
    let mut harness = Harness::builder().settings(|settings| settings.max_message = 4096).start();
    harness.coordinator.fail_dials([DialFault::Refused, DialFault::Refused]);
    let mut link = harness.connect().await;
    script(&mut link).await;
    let end = harness.event(disconnected).await;
    let ended = Instant::now();
    let wait = harness.event(wait).await;
    assert_wait(wait, 1);
    assert_eq!(harness.snapshot().generation, 3);
    harness.connect().await;
    let dialled = *harness.coordinator.dials().last().unwrap();
    let waited = dialled - ended;
    assert!(waited >= wait && waited < wait + Duration::from_millis(5), "{waited:?} instead of {wait:?}");
    let state = harness.snapshot();
    assert_eq!((state.generation, state.connections, state.failures), (4, 2, 0));
    harness.stop().await;
    end
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_close_frame_is_classified() {
    let table = [
        (Some(1001), "drain:deploy", CloseKind::DrainDeploy, Level::Info),
        (Some(1001), "drain:operator", CloseKind::DrainOperator, Level::Info),
        (Some(1001), "another", CloseKind::GracefulOther, Level::Info),
        (Some(1001), "", CloseKind::GracefulOther, Level::Info),
        (None, "", CloseKind::GracefulOther, Level::Info),
        (Some(1000), "", CloseKind::Unexpected, Level::Warn),
        (Some(1000), "drain:deploy", CloseKind::Unexpected, Level::Warn),
        (Some(1012), "restart", CloseKind::Unexpected, Level::Warn),
        (Some(4001), "policy", CloseKind::Unexpected, Level::Warn),
    ];
    for (code, reason, kind, level) in table {
        let end = ends_by(async |link: &mut CoordinatorLink| {
            link.close(code, reason);
            assert_eq!(link.ended().await, Some((code, String::new())), "a close is answered with its code");
        })
        .await;
        assert_eq!(end, (kind, level), "{code:?} {reason}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_end_without_a_close_frame_is_unexpected() {
    for fault in [LinkFault::HangUp, LinkFault::Reset] {
        let end = ends_by(async |link: &mut CoordinatorLink| link.fail(fault)).await;
        assert_eq!(end, (CloseKind::Unexpected, Level::Warn), "{fault:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_peer_that_breaks_the_websocket_protocol_is_sent_the_close_code() {
    // Reserved bits, an unknown opcode, a masked frame, a continuation of nothing, a long ping.
    for bytes in [&[0xc1, 0x00][..], &[0x83, 0x00], &[0x81, 0x80, 0, 0, 0, 0], &[0x80, 0x00], &[0x89, 126, 0, 126]] {
        let end = ends_by(async |link: &mut CoordinatorLink| {
            link.send_raw_bytes(bytes);
            assert_eq!(link.ended().await, Some((Some(1002), String::new())));
        })
        .await;
        assert_eq!(end, (CloseKind::Unexpected, Level::Warn));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_message_over_the_limit_ends_the_connection_by_its_header() {
    let end = ends_by(async |link: &mut CoordinatorLink| {
        // A text frame of a gigabyte, of which only the header comes.
        link.send_raw_bytes(&[0x81, 127, 0, 0, 0, 0, 0x40, 0, 0, 0]);
        assert_eq!(link.ended().await, Some((Some(1009), String::new())));
    })
    .await;
    assert_eq!(end.0, CloseKind::Unexpected);
    let end = ends_by(async |link: &mut CoordinatorLink| {
        link.send_fragmented(&"x".repeat(4097), 100);
        assert_eq!(link.ended().await, Some((Some(1009), String::new())));
    })
    .await;
    assert_eq!(end.0, CloseKind::Unexpected);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn binary_frames_and_unreadable_texts_end_nothing() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    link.send_frame(&Frame::Binary(Bytes::from_static(&[1; 40])));
    for text in
        ["", "nonsense", "[]", r#"{"no":"type"}"#, r#"{"type":7}"#, r#"{"type":"job"}"#, "{\"type\":\"job_cancel\"}"]
    {
        link.send_text(text);
    }
    link.send_frame(&Frame::Text(Bytes::from_static(b"{\"type\":\"\xff\"}")));
    link.send_text(r#"{"type":"weather","is":"fine"}"#);
    link.fence().await;
    let state = harness.snapshot();
    assert_eq!((state.frames_skipped, state.phase, state.connections), (9, Phase::Connected, 1));
    assert!(link.unread_messages().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_failed_dial_doubles_the_wait_up_to_a_minute() {
    let mut harness = Harness::builder().start();
    harness.coordinator.fail_dials([
        DialFault::Refused,
        DialFault::Fails(DialError::Resolve("coordinator.test".into(), std::io::ErrorKind::NotFound)),
        DialFault::Fails(DialError::TlsName),
        DialFault::Fails(DialError::Busy { status: 503, retry_after: None }),
        DialFault::Hangs,
        DialFault::Fails(DialError::Upgrade(UpgradeFault::AcceptKey)),
        DialFault::Refused,
        DialFault::Refused,
    ]);
    for (failures, base) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        assert_eq!(harness.event(failure).await, (failures, Level::Error));
        assert_wait(harness.event(wait).await, base);
    }
    harness.connect().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_asks_for_a_wait_gets_it_up_to_a_minute() {
    let mut harness = Harness::builder().start();
    let busy = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        DialFault::Fails(DialError::Busy { status: 429, retry_after })
    };
    harness.coordinator.fail_dials([busy(30), busy(3600), busy(1), DialFault::Refused]);
    for (failures, (least, below)) in (1..).zip([(30_000, 36_000), (60_000, 72_000), (3_200, 4_800), (6_400, 9_600)]) {
        assert_eq!(harness.event(failure).await, (failures, Level::Error));
        let wait = harness.event(wait).await.as_millis();
        assert!((least..below).contains(&wait), "{wait} ms after failure {failures}");
    }
    harness.connect().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn after_a_planned_end_the_waits_are_one_two_and_four_seconds() {
    let mut harness = Harness::builder().start();
    for _ in 0..2 {
        let link = harness.connect().await;
        harness.coordinator.fail_dials([DialFault::Refused, DialFault::Refused]);
        link.close(Some(1001), "drain:deploy");
        for base in [1, 2, 4] {
            assert_wait(harness.event(wait).await, base);
        }
    }
    harness.connect().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_tenth_failure_in_a_row_is_reported_once_and_the_agent_keeps_trying() {
    let mut harness = Harness::builder().start();
    harness.coordinator.set_outage(Some(DialFault::Refused));
    for failures in 1..=40 {
        harness.until(|state| state.failures == failures).await;
    }
    let said = |harness: &Harness| {
        let tenth = |event: &Event| matches!(event, Event::StillTrying(trying) if trying.failures == 10);
        harness.events().iter().filter(|entry| tenth(&entry.event)).count()
    };
    assert_eq!(said(&harness), 1);
    harness.coordinator.set_outage(None);
    let link = harness.connect().await;
    harness.coordinator.set_outage(Some(DialFault::Refused));
    drop(link);
    for failures in 1..=11 {
        harness.until(|state| state.failures == failures).await;
    }
    assert_eq!(said(&harness), 2, "again after it was connected");
    harness.stop().await;
}
