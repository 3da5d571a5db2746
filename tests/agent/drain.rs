//! An agent that drains accepts no new job, lets running jobs finish, closes its connection and ends.

use std::time::Duration;

use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::JobId;
use outpost::messages::wire::{ErrorCode, Extension, FromAgent};
use outpost::testkit::{
    CoordinatorLink, DialFault, Event, Exit, Harness, LinkFault, Phase, Reply, Request, ScriptedBackend, answer,
    job_frame,
};
use tokio::time::Instant;

/// An agent with one running job, whose answer is in the test's hands.
async fn working() -> (Harness, CoordinatorLink, Request, JobId) {
    working_with(&[]).await
}

/// The same with these extensions on offer.
async fn working_with(offer: &[Extension]) -> (Harness, CoordinatorLink, Request, JobId) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer(offer.iter().copied().collect());
    let link = harness.connect().await;
    let mut job = job_frame("m", "{}");
    job.deadline = Duration::from_secs(600);
    link.send_job(&job);
    let request = backend.request().await;
    (harness, link, request, job.job_id)
}

fn finish(request: &Request) {
    request.head();
    answer(Endpoint::ChatCompletions, "done", 1, 1).into_iter().for_each(|piece| request.piece(piece));
    request.end();
}

/// A job that crossed the beginning of the drain on the wire is refused, the running one finishes, and the agent ends.
async fn only_the_running_job_ends(harness: &mut Harness, link: &mut CoordinatorLink, request: &Request, job: JobId) {
    let late = link.job("m", "{}");
    assert_eq!(link.outcome_of(late).await.code(), ErrorCode::OutOfCapacity);
    link.heartbeat().await;
    finish(request);
    link.outcome_of(job).await.done();
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn running_jobs_finish_and_new_ones_are_refused() {
    let (mut harness, mut link, request, job) = working().await;
    harness.drain();
    harness.until(|state| state.phase == Phase::Draining).await;
    only_the_running_job_ends(&mut harness, &mut link, &request, job).await;
    assert_eq!(harness.snapshot().phase, Phase::Stopped);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_idle_agent_closes_at_once() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    let begin = Instant::now();
    harness.drain();
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    assert!(begin.elapsed() < Duration::from_millis(10));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_outlasts_the_grace_ends_with_an_error_before_the_close() {
    let (mut harness, mut link, mut request, job) = working().await;
    let begin = Instant::now();
    harness.drain();
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
    assert_eq!(begin.elapsed().as_secs(), 30);
    request.dropped().await;
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    let progress = |event: &Event| matches!(event, Event::DrainProgress(progress) if progress.in_flight == 1);
    let logged = harness.events().iter().filter(|entry| progress(&entry.event)).count();
    assert!((5..=6).contains(&logged), "every five seconds, not {logged} times");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_second_drain_ends_running_jobs_at_once() {
    let (mut harness, mut link, mut request, job) = working().await;
    harness.drain();
    link.fence().await;
    let begin = Instant::now();
    harness.drain();
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
    request.dropped().await;
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    assert!(begin.elapsed() < Duration::from_millis(10));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn two_drains_at_the_same_moment_are_two() {
    let (mut harness, mut link, mut request, job) = working().await;
    let begin = Instant::now();
    harness.drain();
    harness.drain();
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
    request.dropped().await;
    assert_eq!(harness.exit().await, Exit::Drained);
    assert!(begin.elapsed() < Duration::from_millis(10), "{:?}", begin.elapsed());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancel_of_the_last_job_lets_it_close() {
    let (mut harness, mut link, mut request, job) = working().await;
    harness.drain();
    link.fence().await;
    link.cancel(job);
    request.dropped().await;
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_that_is_lost_meanwhile_ends_it() {
    for fault in [LinkFault::HangUp, LinkFault::Reset] {
        let (mut harness, mut link, mut request, _) = working().await;
        harness.drain();
        link.fence().await;
        link.fail(fault);
        request.dropped().await;
        assert_eq!(harness.exit().await, Exit::Drained);
        assert!(!harness.coordinator.is_called(), "it does not come back");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_a_connection_the_agent_ends_at_once() {
    // While it dials, between two tries, and in the handshake.
    for fault in [Some(DialFault::Hangs), Some(DialFault::Refused), None] {
        let mut harness = Harness::builder().start();
        harness.coordinator.set_outage(fault.clone());
        let waits = fault == Some(DialFault::Refused);
        harness.until(|state| state.phase == if waits { Phase::Waiting } else { Phase::Connecting }).await;
        let link = match fault {
            None => Some(harness.coordinator.next_connection().await),
            Some(_) => None,
        };
        let begin = Instant::now();
        harness.drain();
        assert_eq!(harness.exit().await, Exit::Drained);
        assert!(begin.elapsed() < Duration::from_millis(10), "{fault:?}");
        assert!(!harness.coordinator.is_called(), "{fault:?}");
        drop(link);
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_last_frames_reach_a_coordinator_that_reads_slowly() {
    let (mut harness, mut link, request, job) = working().await;
    link.fail(LinkFault::StopReading);
    request.head();
    (0..24).for_each(|_| request.piece(vec![b'\n'; 8 * 1024]));
    answer(Endpoint::ChatCompletions, "done", 1, 1).into_iter().for_each(|piece| request.piece(piece));
    request.end();
    let mut read = request.clone();
    read.finished().await;
    harness.drain();
    harness.until(|state| state.phase == Phase::Draining).await;
    link.resume_reading();
    assert!(link.outcome_of(job).await.bytes.len() > 192 << 10);
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_reads_nothing_delays_the_end_only_briefly() {
    let (mut harness, mut link, request, _) = working().await;
    link.fail(LinkFault::StopReading);
    request.head();
    (0..24).for_each(|_| request.piece(vec![b'\n'; 8 * 1024]));
    let mut read = request.clone();
    read.taken(24).await;
    let begin = Instant::now();
    harness.drain();
    harness.until(|state| state.phase == Phase::Draining).await;
    harness.drain();
    assert_eq!(harness.exit().await, Exit::Drained);
    assert!(begin.elapsed() <= Duration::from_secs(6), "{:?}", begin.elapsed());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_is_announced_once_where_that_was_agreed_on_and_running_jobs_finish() {
    let (mut harness, mut link, request, job) = working_with(&[Extension::Drain]).await;
    harness.drain();
    assert_eq!(link.draining().await, 1);
    only_the_running_job_ends(&mut harness, &mut link, &request, job).await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_idle_agent_announces_a_drain_of_no_jobs_and_closes() {
    let mut harness = Harness::builder().start();
    harness.coordinator.offer([Extension::Drain].into_iter().collect());
    let mut link = harness.coordinator.welcome().await;
    harness.until(|state| state.phase == Phase::Connected).await;
    harness.drain();
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    let sent = link.unread_messages();
    let [FromAgent::Capabilities(_), FromAgent::Drain(notice)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(notice.in_flight, 0);
    assert_eq!(harness.exit().await, Exit::Drained);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_second_drain_after_the_announcement_ends_running_jobs_at_once() {
    let (mut harness, mut link, mut request, job) = working_with(&[Extension::Drain]).await;
    harness.drain();
    assert_eq!(link.draining().await, 1);
    harness.drain();
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
    request.dropped().await;
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    harness.stop().await;
}

/// An agent with a session, and with one running job, that was told to stop.
async fn draining_with_a_session() -> (Harness, CoordinatorLink, Request, JobId) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer([Extension::Drain, Extension::Resume, Extension::Handover].into_iter().collect());
    let mut link = harness.coordinator.new_session("s-1", "m").await;
    let mut job = job_frame("m", "{}");
    job.deadline = Duration::from_secs(600);
    link.send_job(&job);
    let request = backend.request().await;
    harness.drain();
    assert_eq!(link.draining().await, 1);
    (harness, link, request, job.job_id)
}

/// The agent comes back with that job, announces its drain again, and goes on with the job from its first byte.
async fn comes_back(harness: &mut Harness, job: JobId, ended: bool) -> CoordinatorLink {
    let (mut link, response) = harness.coordinator.challenged().await;
    let listed = response.resume.map(|resume| resume.jobs).unwrap_or_default();
    assert_eq!(listed.iter().map(|kept| (kept.job_id, kept.ended)).collect::<Vec<_>>(), [(job, ended)]);
    link.resume_session("s-1", &[(job, 0)]);
    assert!(matches!(link.next().await, FromAgent::Capabilities(_)));
    assert_eq!(link.draining().await, u64::from(!ended));
    link
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_goes_on_over_other_connections_until_the_last_end_is_acknowledged() {
    let (mut harness, mut link, request, job) = draining_with_a_session().await;
    link.fail(LinkFault::Reset);
    let mut link = comes_back(&mut harness, job, false).await;
    let late = link.job("m", "{}");
    assert_eq!(link.outcome_of(late).await.code(), ErrorCode::OutOfCapacity);
    finish(&request);
    let answer = link.outcome_of(job).await;
    link.fence().await;
    link.fail(LinkFault::HangUp);
    let mut link = comes_back(&mut harness, job, true).await;
    assert_eq!(link.outcome_of(job).await.bytes, answer.bytes);
    link.fence().await;
    link.ack_final(job);
    assert_eq!(link.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_that_does_not_get_its_connection_back_or_its_last_acknowledgement_ends_with_the_grace() {
    for comes_back_once in [false, true] {
        let (mut harness, mut link, request, job) = draining_with_a_session().await;
        let begin = Instant::now();
        if comes_back_once {
            link.fail(LinkFault::Reset);
            link = comes_back(&mut harness, job, false).await;
            finish(&request);
            link.outcome_of(job).await.done();
        } else {
            harness.coordinator.set_outage(Some(DialFault::Refused));
            link.fail(LinkFault::Reset);
        }
        assert_eq!(harness.exit().await, Exit::Drained);
        assert!((30..=36).contains(&begin.elapsed().as_secs()), "{comes_back_once} {:?}", begin.elapsed());
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_goes_on_where_a_handover_moves_its_jobs() {
    for told_once in [true, false] {
        let (mut harness, mut old, request, job) = draining_with_a_session().await;
        old.handover(Duration::from_secs(20));
        let mut new = comes_back(&mut harness, job, false).await;
        assert_eq!(old.ended().await, Some((Some(1000), String::new())));
        if told_once {
            finish(&request);
            new.outcome_of(job).await.done();
        } else {
            harness.drain();
            assert_eq!(new.outcome_of(job).await.code(), ErrorCode::Internal);
        }
        new.ack_final(job);
        assert_eq!(new.ended().await, Some((Some(1000), String::new())));
        assert_eq!(harness.exit().await, Exit::Drained);
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_that_is_done_waits_for_no_handover() {
    let (mut harness, mut old, request, job) = draining_with_a_session().await;
    old.handover(Duration::from_secs(20));
    let (next, _) = harness.coordinator.challenged().await;
    finish(&request);
    old.outcome_of(job).await.done();
    let begin = Instant::now();
    old.ack_final(job);
    assert_eq!(old.ended().await, Some((Some(1000), String::new())));
    assert_eq!(harness.exit().await, Exit::Drained);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    drop(next);
    harness.stop().await;
}
