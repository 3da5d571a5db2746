//! One agent with several coordinators: each has its own connection, session, backoff and provider id, and all share the slots.

use std::time::Duration;

use outpost::messages::wire::{ErrorCode, Extension, Extensions, FromAgent};
use outpost::testkit::{DialFault, Harness, LinkFault, Reply, ScriptedBackend, World, job_frame};

use crate::half_done::{DONE, TEXT, finish, half_done};

const DEADLINE: Duration = Duration::from_secs(30);

/// An agent with two slots and two coordinators that offer these extensions.
fn world(extensions: &[Extension]) -> (World, ScriptedBackend) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::ByHand);
    let agent = Harness::builder().backend(&backend).max_concurrent(2);
    let mut world = World::builder().scripted_coordinators(2).agent_of(&[0, 1], agent).start();
    for number in 0..2 {
        world.scripted(number).offer(extensions.iter().copied().collect::<Extensions>());
    }
    (world, backend)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_gets_the_offer_and_sends_jobs_and_slots_count_for_all() {
    let (mut world, backend) = world(&[]);
    let mut left = world.scripted(0).serving("m").await;
    let mut right = world.scripted(1).serving("m").await;
    let (first, request) = half_done(&backend, &mut left).await;
    let (second, other) = half_done(&backend, &mut right).await;
    for link in [&mut left, &mut right] {
        let refused = link.job("m", "{}");
        assert_eq!(link.outcome_of(refused).await.code(), ErrorCode::OutOfCapacity);
    }
    finish(&request);
    left.outcome_of(first).await.done();
    let (third, last) = half_done(&backend, &mut right).await;
    finish(&other);
    right.outcome_of(second).await.done();
    finish(&last);
    right.outcome_of(third).await.done();
    left.fence().await;
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn one_that_is_down_disturbs_nothing_and_has_a_backoff_of_its_own() {
    for fault in [DialFault::Refused, DialFault::Hangs] {
        let (mut world, backend) = world(&[]);
        world.scripted(1).set_outage(Some(fault));
        let mut link = world.scripted(0).serving("m").await;
        let (job, request) = half_done(&backend, &mut link).await;
        world.scripted(1).dialled(4).await;
        link.ping(b"still here").await;
        // The first one is lost for a moment: its wait is not that of the other.
        link.fail(LinkFault::Reset);
        let before = world.scripted(1).dials().len();
        let mut link = world.scripted(0).serving("m").await;
        assert!(world.scripted(1).dials().len() <= before + 1);
        drop(request);
        let (next, request) = half_done(&backend, &mut link).await;
        assert_ne!(job, next);
        let state = world.agents[0].snapshot();
        assert!(state.is_ready() && state.coordinators[0].failures == 0 && state.coordinators[1].failures > 1);
        world.scripted(1).set_outage(None);
        let mut other = world.scripted(1).serving("m").await;
        finish(&request);
        link.outcome_of(next).await.done();
        other.fence().await;
        assert_eq!(world.agents[0].snapshot().coordinators[1].failures, 0);
        world.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_with_one_id_from_two_coordinators_are_two_jobs_and_neither_reaches_the_others() {
    let (mut world, backend) = world(&[Extension::Resume]);
    let mut left = world.scripted(0).new_session("s-1", "m").await;
    let mut right = world.scripted(1).new_session("s-1", "m").await;
    let (job, request) = half_done(&backend, &mut left).await;
    let mut same = job_frame("m", "{}");
    same.job_id = job;
    right.send_job(&same);
    let mut other = backend.request().await;
    other.head();
    other.piece(TEXT);
    assert_eq!(right.chunk_of(job).await, TEXT.as_bytes());
    // A cancel and acknowledgements of one coordinator are not for the job of the other.
    right.ack(job, TEXT.len() as u64);
    right.cancel_and_silence(job).await;
    other.dropped().await;
    left.fail(LinkFault::Reset);
    let (mut left, response) = world.scripted(0).challenged().await;
    let kept = response.resume.unwrap().jobs;
    assert_eq!((kept.len(), kept[0].job_id, kept[0].offset), (1, job, TEXT.len() as u64));
    left.resume_session("s-2", &[(job, 0)]);
    assert!(matches!(left.next().await, FromAgent::Capabilities(_)));
    finish(&request);
    let whole = left.outcome_of(job).await;
    assert_eq!(whole.bytes, [TEXT, DONE].concat().as_bytes());
    whole.done();
    right.fence().await;
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_session_is_resumed_at_its_own_coordinator_only() {
    let (mut world, backend) = world(&[Extension::Resume]);
    let mut left = world.scripted(0).new_session("s-left", "m").await;
    let mut right = world.scripted(1).new_session("s-right", "m").await;
    let (mine, request) = half_done(&backend, &mut left).await;
    let (yours, other) = half_done(&backend, &mut right).await;
    left.fail(LinkFault::HangUp);
    right.fail(LinkFault::HangUp);
    for (number, session, job) in [(1, "s-right", yours), (0, "s-left", mine)] {
        let (mut link, response) = world.scripted(number).challenged().await;
        let resume = response.resume.unwrap();
        assert_eq!((resume.session.as_str(), resume.jobs.len(), resume.jobs[0].job_id), (session, 1, job));
        link.resume_session(session, &[(job, TEXT.len() as u64)]);
        assert!(matches!(link.next().await, FromAgent::Capabilities(_)));
        finish(if number == 0 { &request } else { &other });
        let rest = link.outcome_of(job).await;
        assert_eq!(rest.bytes, DONE.as_bytes());
        rest.done();
        if number == 1 { right = link } else { left = link }
    }
    left.fence().await;
    right.fence().await;
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_handover_of_one_leaves_the_other_alone() {
    let (mut world, backend) = world(&[Extension::Handover]);
    let mut left = world.scripted(0).serving("m").await;
    let mut right = world.scripted(1).serving("m").await;
    let (first, request) = half_done(&backend, &mut left).await;
    let (second, other) = half_done(&backend, &mut right).await;
    left.handover(DEADLINE);
    let mut next = world.scripted(0).serving("m").await;
    right.ping(b"as before").await;
    finish(&other);
    right.outcome_of(second).await.done();
    let (third, last) = half_done(&backend, &mut right).await;
    finish(&request);
    left.outcome_of(first).await.done();
    assert_eq!(left.ended().await, Some((Some(1000), String::new())));
    finish(&last);
    right.outcome_of(third).await.done();
    next.fence().await;
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_goes_to_all_with_the_jobs_of_each() {
    let (mut world, backend) = world(&[Extension::Drain]);
    let mut left = world.scripted(0).serving("m").await;
    let mut right = world.scripted(1).serving("m").await;
    let (job, request) = half_done(&backend, &mut left).await;
    world.agents[0].drain();
    assert_eq!((left.draining().await, right.draining().await), (1, 0));
    finish(&request);
    left.outcome_of(job).await.done();
    assert_eq!(left.ended().await, Some((Some(1000), String::new())));
    assert_eq!(right.ended().await, Some((Some(1000), String::new())));
    world.stop().await;
}
