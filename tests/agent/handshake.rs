//! The agent proves its key, and accepts only frames of the handshake until it is admitted.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outpost::messages::wire::{Extensions, FromAgent, FromCoordinator};
use outpost::testkit::events::ConnectFailure;
use outpost::testkit::{
    CoordinatorLink, Event, Frame, HandshakeFailure, Harness, Identity, JobEnd, LinkFault, Phase, ScriptedBackend,
};
use tokio::time::Instant;

/// The event of a failed try: failures in a row, and why.
fn failed(event: &Event) -> Option<(u32, ConnectFailure)> {
    match event {
        Event::ConnectFailed(failed) => Some((failed.failures, failed.cause.clone())),
        _ => None,
    }
}

fn wait(event: &Event) -> Option<Duration> {
    match event {
        Event::Retrying(retrying) => Some(retrying.wait),
        _ => None,
    }
}

/// The handshake fails at what `script` does. The agent sends a close frame and dials again after the first wait.
async fn fails_at(script: impl AsyncFnOnce(&mut CoordinatorLink)) -> ConnectFailure {
    let mut harness = Harness::builder().start();
    let mut link = harness.coordinator.next_connection().await;
    script(&mut link).await;
    let (failures, cause) = harness.event(failed).await;
    assert_eq!(failures, 1);
    let wait = harness.event(wait).await;
    assert!((800..1200).contains(&wait.as_millis()), "{wait:?}");
    assert!(link.unread_messages().iter().all(|sent| matches!(sent, FromAgent::AuthResponse(_))));
    harness.connect().await;
    assert_eq!(harness.snapshot().connections, 1);
    harness.stop().await;
    cause
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_nonce_is_signed_and_capabilities_follow() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.coordinator.next_connection().await;
    link.challenge();
    let response = link.expect_auth().await;
    assert_eq!(response.pubkey, STANDARD.encode(harness.identity.pubkey()));
    assert_eq!(response.agent_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(response.enrollment_code, None);
    link.accept(None);
    assert!(matches!(link.next().await, FromAgent::Capabilities(_)));
    let state = harness.until(|state| state.phase == Phase::Connected).await;
    assert_eq!((state.connections, state.generation, state.provider_id), (1, 1, None));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn nonces_of_every_allowed_size_are_signed() {
    let mut harness = Harness::builder().start();
    for size in [16, 17, 255, 256] {
        let mut link = harness.coordinator.next_connection().await;
        link.challenge_with(&vec![7; size]);
        link.expect_auth().await;
        link.accept(None);
        link.capabilities().await;
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_nonce_of_another_size_or_none_is_not_signed() {
    for nonce in [None, Some(STANDARD.encode([7; 15])), Some(STANDARD.encode([7; 257])), Some("not base64!".into())] {
        fails_at(async |link: &mut CoordinatorLink| {
            match nonce {
                Some(nonce) => {
                    link.send(&FromCoordinator::AuthChallenge { nonce, extensions: Extensions::NONE });
                }
                None => link.send_text(r#"{"type":"auth_challenge"}"#),
            }
            assert_eq!(link.ended().await, Some((Some(1002), String::new())));
            assert!(link.unread_messages().is_empty(), "nothing is signed");
        })
        .await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_frame_out_of_place_before_the_challenge_fails_the_handshake() {
    let frames = [
        Frame::Binary(Bytes::from_static(b"x")),
        Frame::Text(Bytes::from_static(b"hello")),
        Frame::Text(Bytes::from_static(b"[]")),
        Frame::Text(Bytes::from_static(br#"{"no":"type"}"#)),
        Frame::Text(Bytes::from_static(br#"{"type":"auth_ok"}"#)),
        Frame::Text(Bytes::from_static(br#"{"type":"job_cancel","job_id":"6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10"}"#)),
        Frame::Text(Bytes::from_static(br#"{"type":"news"}"#)),
        Frame::Close { code: Some(1001), reason: "drain:deploy".into() },
        Frame::Close { code: None, reason: String::new() },
    ];
    for frame in frames {
        fails_at(async |link: &mut CoordinatorLink| {
            link.send_frame(&frame);
            link.ended().await;
            assert!(link.unread_messages().is_empty());
        })
        .await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_frame_out_of_place_before_the_verdict_fails_the_handshake() {
    let job = r#"{"type":"job","job_id":"6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10","model_id":"m","request":{}}"#;
    for text in [job, r#"{"type":"auth_challenge","nonce":""}"#, "{", r#"{"type":"news"}"#] {
        fails_at(async |link: &mut CoordinatorLink| {
            link.challenge();
            link.expect_auth().await;
            link.send_text(text);
            link.ended().await;
            assert!(link.unread_messages().is_empty(), "a job before auth_ok gets no answer");
        })
        .await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_that_breaks_during_the_handshake_is_a_failure() {
    for fault in [LinkFault::HangUp, LinkFault::Reset] {
        fails_at(async |link: &mut CoordinatorLink| link.fail(fault)).await;
        fails_at(async |link: &mut CoordinatorLink| {
            link.challenge();
            link.expect_auth().await;
            link.fail(fault);
        })
        .await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_step_has_ten_seconds() {
    let mut harness = Harness::builder().start();
    let opened = Instant::now();
    let mut link = harness.coordinator.next_connection().await;
    link.ended().await;
    assert_eq!(opened.elapsed().as_secs(), 10);
    assert_eq!(harness.event(failed).await.0, 1);

    let mut link = harness.coordinator.next_connection().await;
    link.challenge();
    link.expect_auth().await;
    let answered = Instant::now();
    link.ended().await;
    assert_eq!(answered.elapsed().as_secs(), 10);
    assert_eq!(harness.event(failed).await.0, 2);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn pings_are_answered_and_do_not_stretch_a_step() {
    let mut harness = Harness::builder().start();
    let mut link = harness.coordinator.next_connection().await;
    let opened = Instant::now();
    link.ping(b"one").await;
    link.send_frame(&Frame::Pong(Bytes::new()));
    for _ in 0..9 {
        tokio::time::advance(Duration::from_secs(1)).await;
        link.ping(b"more").await;
    }
    link.ended().await;
    assert_eq!(opened.elapsed().as_secs(), 10);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refusal_is_retried_for_ever_with_growing_waits() {
    let mut harness = Harness::builder().start();
    for failures in 1..=14 {
        let mut link = harness.coordinator.next_connection().await;
        link.challenge();
        link.expect_auth().await;
        let reason = (failures > 1).then(|| "who\nare you".to_owned());
        link.send(&FromCoordinator::AuthFailed { reason });
        let (counted, cause) = harness.event(failed).await;
        assert_eq!(counted, failures);
        let reason = if failures > 1 { "who\nare you" } else { "unknown" }.to_owned();
        assert_eq!(cause, HandshakeFailure::Rejected { reason }.into());
        let wait = harness.event(wait).await;
        let base = Duration::from_secs(1 << (failures - 1).min(6)).min(Duration::from_secs(60));
        assert!(wait >= base * 4 / 5 && wait < base * 6 / 5, "{wait:?} after failure {failures}");
    }
    harness.connect().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_enrollment_code_is_sent_while_there_is_no_provider_id() {
    let mut harness = Harness::builder().enrollment_code("code-1").start();
    for _ in 0..2 {
        let mut link = harness.coordinator.next_connection().await;
        link.challenge();
        assert_eq!(link.expect_auth().await.enrollment_code.as_deref(), Some("code-1"));
        link.accept(None);
        link.capabilities().await;
    }
    let mut link = harness.coordinator.next_connection().await;
    link.challenge();
    link.expect_auth().await;
    link.accept(Some("agent-1"));
    link.capabilities().await;
    drop(link);
    let mut link = harness.coordinator.next_connection().await;
    link.challenge();
    assert_eq!(link.expect_auth().await.enrollment_code, None);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_provider_id_is_kept_and_another_one_replaces_it_with_a_warning() {
    let identity = Identity::ephemeral().unwrap();
    let mut harness = Harness::builder().identity(identity.clone()).start();
    for id in [Some("agent-1"), Some("agent-1"), None, Some("agent.2:b_C")] {
        let mut link = harness.coordinator.next_connection().await;
        link.challenge();
        link.expect_auth().await;
        link.accept(id);
        link.capabilities().await;
    }
    assert_eq!(identity.provider_id().unwrap().as_str(), "agent.2:b_C");
    let replaced: Vec<_> = harness
        .events()
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::ProviderIdReplaced(replaced) => Some((replaced.old.to_string(), replaced.new.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(replaced, [("agent-1".to_owned(), "agent.2:b_C".to_owned())]);
    assert_eq!(harness.snapshot().provider_id.as_deref(), Some("agent.2:b_C"));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_malformed_provider_id_fails_the_handshake_and_is_not_kept() {
    let long = format!("\"{}\"", "x".repeat(129));
    for id in [r#""""#, r#""a b""#, r#""a\nb""#, r#""ä""#, "7", "{}", &long] {
        let identity = Identity::ephemeral().unwrap();
        let mut harness = Harness::builder().identity(identity.clone()).start();
        let mut link = harness.coordinator.next_connection().await;
        link.challenge();
        link.expect_auth().await;
        link.send_text(format!(r#"{{"type":"auth_ok","provider_id":{id}}}"#));
        assert_eq!(harness.event(failed).await.0, 1, "{id}");
        assert_eq!(identity.provider_id(), None, "{id}");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn frames_that_come_with_the_verdict_are_not_lost() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.coordinator.next_connection().await;
    link.challenge();
    link.expect_auth().await;
    link.accept(None);
    let job = link.job("m", "{}");
    assert!(matches!(link.outcome_of(job).await.end, JobEnd::Done(_)));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn frames_of_the_handshake_after_it_are_skipped() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    link.challenge();
    link.accept(Some("agent-2"));
    link.send(&FromCoordinator::AuthFailed { reason: None });
    link.fence().await;
    let state = harness.snapshot();
    assert_eq!((state.frames_skipped, state.phase), (3, Phase::Connected));
    assert_eq!(state.provider_id.as_deref(), Some("agent-1"));
    assert!(link.unread_messages().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_nonce_of_an_earlier_connection_is_not_signed_again() {
    let mut harness = Harness::builder().start();
    let mut link = harness.coordinator.next_connection().await;
    link.challenge_with(&[7; 32]);
    link.expect_auth().await;
    link.accept(None);
    link.capabilities().await;
    drop(link);
    let mut link = harness.coordinator.next_connection().await;
    link.challenge_with(&[7; 32]);
    assert_eq!(link.ended().await, Some((Some(1002), String::new())));
    assert!(link.unread_messages().is_empty(), "nothing is signed");
    assert_eq!(harness.event(failed).await.0, 1);
    harness.connect().await;
    harness.stop().await;
}
