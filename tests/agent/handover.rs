//! A planned change of connection without a gap: the extension `handover`.

use std::time::Duration;

use outpost::messages::wire::{ErrorCode, Extension, Extensions, FromAgent};
use outpost::testkit::{
    CoordinatorLink, DialFault, Exit, Harness, LinkFault, Phase, Reply, ScriptedBackend, job_frame,
};
use tokio::time::Instant;

use crate::half_done::{DONE, TEXT, finish, half_done};

const DEADLINE: Duration = Duration::from_secs(30);

async fn agent(extensions: &[Extension]) -> (Harness, ScriptedBackend, CoordinatorLink) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::ByHand);
    let mut harness = Harness::builder().backend(&backend).max_concurrent(2).start();
    harness.coordinator.offer(extensions.iter().copied().collect::<Extensions>());
    let link = if extensions.contains(&Extension::Resume) {
        harness.coordinator.new_session("s-1", "m").await
    } else {
        harness.coordinator.serving("m").await
    };
    (harness, backend, link)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_end_on_the_old_connection_and_new_ones_begin_on_the_next() {
    let (mut harness, backend, mut old) = agent(&[Extension::Handover]).await;
    let (first, request) = half_done(&backend, &mut old).await;
    let begun = Instant::now();
    old.handover(DEADLINE);
    let mut new = harness.coordinator.next_connection().await;
    assert!(begun.elapsed() < Duration::from_millis(100), "it dials at once");
    // Until the new connection is accepted the old one takes jobs.
    let (second, other) = half_done(&backend, &mut old).await;
    new.welcome().await;
    assert!(matches!(new.next().await, FromAgent::Capabilities(_)));
    assert!(begun.elapsed() < Duration::from_millis(500));
    // Slots are counted over both.
    let refused = new.job("m", "{}");
    assert_eq!(new.outcome_of(refused).await.code(), ErrorCode::OutOfCapacity);
    let late = old.job("m", "{}");
    assert_eq!(old.outcome_of(late).await.code(), ErrorCode::OutOfCapacity);
    assert!(harness.snapshot().connected_since.is_some());
    finish(&request);
    old.outcome_of(first).await.done();
    let (third, last) = half_done(&backend, &mut new).await;
    old.ping(b"it still has a job").await;
    finish(&other);
    old.outcome_of(second).await.done();
    assert_eq!(old.ended().await, Some((Some(1000), String::new())));
    finish(&last);
    new.outcome_of(third).await.done();
    assert_eq!(harness.snapshot().connections, 2);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_old_connection_without_a_job_is_closed_at_once() {
    let (mut harness, _backend, mut old) = agent(&[Extension::Handover]).await;
    old.handover(DEADLINE);
    let mut new = harness.coordinator.serving("m").await;
    assert_eq!(old.ended().await, Some((Some(1000), String::new())));
    new.fence().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_move_at_once_where_the_session_goes_on() {
    let (mut harness, backend, mut old) = agent(&[Extension::Handover, Extension::Resume]).await;
    let (job, request) = half_done(&backend, &mut old).await;
    old.handover(DEADLINE);
    let (mut new, response) = harness.coordinator.challenged().await;
    assert_eq!(response.resume.unwrap().jobs.len(), 1);
    // It was sent after the list was made, so it counts as never received.
    let lost = old.job("m", "{}");
    let mut unheard = backend.request().await;
    new.resume_session("s-1", &[(job, 5)]);
    unheard.dropped().await;
    assert!(matches!(new.next().await, FromAgent::Capabilities(_)));
    finish(&request);
    assert_eq!(new.outcome_of(job).await.bytes, [TEXT, DONE].concat().as_bytes()[5..]);
    assert_eq!(old.ended().await, Some((Some(1000), String::new())));
    // The coordinator may send it again.
    let mut again = job_frame("m", "{}");
    again.job_id = lost;
    new.send_job(&again);
    let request = backend.request().await;
    request.head();
    finish(&request);
    new.outcome_of(lost).await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn where_the_session_does_not_go_on_jobs_end_on_the_old_connection() {
    let (mut harness, backend, mut old) = agent(&[Extension::Handover, Extension::Resume]).await;
    let (job, request) = half_done(&backend, &mut old).await;
    old.handover(DEADLINE);
    let (mut new, _) = harness.coordinator.challenged().await;
    new.open_session("s-2");
    new.until_offered("m").await;
    finish(&request);
    old.outcome_of(job).await.done();
    assert_eq!(old.ended().await, Some((Some(1000), String::new())));
    new.fence().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn at_the_deadline_the_old_connection_is_closed_and_its_jobs_end_or_wait() {
    for resumes in [false, true] {
        let extensions = [Extension::Handover, Extension::Resume];
        let (mut harness, backend, mut old) = agent(if resumes { &extensions } else { &extensions[..1] }).await;
        let (job, mut request) = half_done(&backend, &mut old).await;
        harness.coordinator.set_outage(Some(DialFault::Refused));
        let begun = Instant::now();
        old.handover(DEADLINE);
        assert_eq!(old.ended().await, Some((Some(1000), String::new())));
        assert!((DEADLINE..DEADLINE + Duration::from_secs(1)).contains(&begun.elapsed()));
        if resumes {
            harness.coordinator.set_outage(None);
            let (mut new, response) = harness.coordinator.challenged().await;
            assert_eq!(response.resume.unwrap().jobs[0].job_id, job);
            new.resume_session("s-1", &[(job, 0)]);
            assert_eq!(new.chunk_of(job).await, TEXT.as_bytes());
        } else {
            request.dropped().await;
        }
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_handover_that_is_malformed_or_repeated_is_skipped() {
    let (mut harness, _backend, mut link) = agent(&[Extension::Handover]).await;
    for text in [r#"{"type":"handover"}"#, r#"{"type":"handover","deadline_ms":999}"#] {
        link.send_text(text);
    }
    link.fence().await;
    assert_eq!((harness.snapshot().frames_skipped, harness.coordinator.is_called()), (2, false));
    link.handover(DEADLINE);
    link.handover(DEADLINE);
    let _next = harness.coordinator.serving("m").await;
    assert_eq!(harness.snapshot().handovers, 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_failed_dial_is_tried_again_while_the_old_connection_goes_on() {
    let (mut harness, backend, mut old) = agent(&[Extension::Handover]).await;
    harness.coordinator.fail_dials([DialFault::Refused, DialFault::Refused]);
    old.handover(DEADLINE);
    harness.coordinator.dialled(3).await;
    let (job, request) = half_done(&backend, &mut old).await;
    assert!(harness.snapshot().connected_since.is_some());
    finish(&request);
    old.outcome_of(job).await.done();
    let mut new = harness.coordinator.serving("m").await;
    let dials = harness.coordinator.dials();
    let wait = dials[2] - dials[1];
    assert!((Duration::from_millis(790)..Duration::from_millis(1210)).contains(&wait), "{wait:?}");
    new.fence().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_the_agreement_the_frame_means_nothing() {
    let (harness, _backend, mut link) = agent(&[]).await;
    link.handover(DEADLINE);
    link.fence().await;
    assert!(!harness.coordinator.is_called());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_older_connection_goes_on_when_the_current_one_is_lost_and_replaced() {
    for extensions in [&[Extension::Handover][..], &[Extension::Handover, Extension::Resume]] {
        let (mut harness, backend, mut old) = agent(extensions).await;
        let (job, request) = half_done(&backend, &mut old).await;
        old.handover(DEADLINE);
        let accept = async |harness: &mut Harness, session: &str| {
            let (mut link, _) = harness.coordinator.challenged().await;
            if extensions.contains(&Extension::Resume) {
                link.open_session(session)
            } else {
                link.accept(None)
            }
            link.until_offered("m").await;
            link
        };
        let mut current = accept(&mut harness, "s-2").await;
        let (_, mut lost) = half_done(&backend, &mut current).await;
        current.fail(LinkFault::Reset);
        let mut next = accept(&mut harness, "s-3").await;
        lost.dropped().await;
        finish(&request);
        old.outcome_of(job).await.done();
        assert_eq!(old.ended().await, Some((Some(1000), String::new())));
        next.fence().await;
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_waits_for_an_older_connection_when_the_current_one_is_lost() {
    let (mut harness, backend, mut old) = agent(&[Extension::Handover]).await;
    let (job, request) = half_done(&backend, &mut old).await;
    old.handover(DEADLINE);
    let mut current = harness.coordinator.serving("m").await;
    harness.drain();
    harness.until(|state| state.phase == Phase::Draining).await;
    current.fail(LinkFault::Reset);
    assert_eq!(current.ended().await, None);
    finish(&request);
    old.outcome_of(job).await.done();
    assert_eq!(old.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn handovers_without_end_are_followed_once_a_second_after_the_first_four() {
    let (mut harness, _backend, mut link) = agent(&[Extension::Handover]).await;
    for _ in 0..7 {
        link.handover(DEADLINE);
        link = harness.coordinator.serving("m").await;
    }
    let dials = harness.coordinator.dials();
    let (at_once, later) = dials.split_at(5);
    assert!(at_once[4] - at_once[0] < Duration::from_secs(1), "{dials:?}");
    assert!(later[0] - at_once[4] > Duration::from_millis(500), "{dials:?}");
    assert!(later.windows(2).all(|two| two[1] - two[0] > Duration::from_millis(900)), "{dials:?}");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_came_after_the_list_and_has_ended_may_be_sent_again() {
    let (mut harness, backend, mut old) = agent(&[Extension::Handover, Extension::Resume]).await;
    let (job, request) = half_done(&backend, &mut old).await;
    old.handover(DEADLINE);
    let (mut new, _) = harness.coordinator.challenged().await;
    let mut late = job_frame("m", "{}");
    old.send_job(&late);
    let other = backend.request().await;
    other.head();
    finish(&other);
    harness.until(|state| state.jobs.done == 1).await;
    new.resume_session("s-1", &[(job, 5)]);
    assert!(matches!(new.next().await, FromAgent::Capabilities(_)));
    late.deadline = Duration::from_secs(90);
    new.send_job(&late);
    let other = backend.request().await;
    other.head();
    finish(&other);
    new.outcome_of(late.job_id).await.done();
    finish(&request);
    new.outcome_of(job).await.done();
    // Now both have ended.
    new.send_job(&late);
    new.fence().await;
    assert_eq!(backend.requests().len(), 3);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_handover_of_the_newer_connection_closes_the_older_one() {
    let (mut harness, backend, mut old) = agent(&[Extension::Handover]).await;
    let (_, mut lost) = half_done(&backend, &mut old).await;
    old.handover(DEADLINE);
    let mut second = harness.coordinator.serving("m").await;
    let (job, request) = half_done(&backend, &mut second).await;
    second.handover(DEADLINE);
    assert_eq!(old.ended().await, Some((Some(1000), String::new())));
    lost.dropped().await;
    let mut third = harness.coordinator.serving("m").await;
    finish(&request);
    second.outcome_of(job).await.done();
    third.fence().await;
    harness.stop().await;
}
