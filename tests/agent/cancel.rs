//! A cancel frees everything at once, wherever the job is: its request, its slot, and its place on the wire.

use bytes::Bytes;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::JobId;
use outpost::messages::wire::{ErrorCode, FromAgent};
use outpost::testkit::{CoordinatorLink, Harness, LinkFault, Reply, RequestState, ScriptedBackend, answer};

const MAX: u32 = 4;
/// What may be on its way to a coordinator that does not read: a connection's bytes, and a write's.
const ON_THE_WAY: usize = 64 * 1024 + 2 * 64 * 1024;

async fn agent(backend: &ScriptedBackend) -> (Harness, CoordinatorLink) {
    let mut harness = Harness::builder().backend(backend).max_concurrent(MAX).start();
    let link = harness.connect().await;
    (harness, link)
}

/// Exactly as many jobs are admitted as there are slots; they are left running.
async fn assert_all_slots_free(backend: &ScriptedBackend, link: &mut CoordinatorLink) {
    backend.reply_always(Reply::Hang);
    let before = backend.open();
    let jobs: Vec<JobId> = (0..MAX + 2).map(|_| link.job("m", "{}")).collect();
    for refused in jobs.into_iter().skip(MAX as usize) {
        assert_eq!(link.outcome_of(refused).await.code(), ErrorCode::OutOfCapacity);
    }
    link.fence().await;
    assert!(link.unread_messages().is_empty(), "the others are admitted");
    assert_eq!((before, backend.open()), (0, MAX as usize));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn before_the_job_has_started() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend).await;
    backend.reply_always(Reply::Hang);
    for _ in 0..20 {
        let job = link.job("m", "{}");
        link.cancel_and_silence(job).await;
    }
    let state = harness.until(|state| state.in_flight == 0).await;
    assert_eq!((state.jobs.admitted, state.jobs.cancelled), (20, 20));
    assert!(backend.requests().iter().all(|request| request.state() == RequestState::Dropped));
    assert_all_slots_free(&backend, &mut link).await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn before_the_first_byte() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    backend.reply([Reply::Hang]);
    let job = link.job("m", "{}");
    let mut request = backend.request().await;
    link.cancel_and_silence(job).await;
    request.dropped().await;
    assert_all_slots_free(&backend, &mut link).await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn between_two_chunks() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    backend.reply([Reply::ByHand]);
    let job = link.job("m", "{}");
    let mut request = backend.request().await;
    request.head();
    request.piece("data: {}\n\n");
    link.chunk_of(job).await;
    link.cancel_and_silence(job).await;
    request.dropped().await;
    assert_all_slots_free(&backend, &mut link).await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn with_chunks_queued_behind_a_coordinator_that_does_not_read() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    link.fail(LinkFault::StopReading);
    backend.reply([Reply::ByHand]);
    let job = link.job("m", "{}");
    let mut request = backend.request().await;
    request.head();
    (0..60).for_each(|_| request.piece(vec![b'x'; 8 * 1024]));
    request.taken(30).await;
    link.cancel(job);
    request.dropped().await;
    link.resume_reading();
    link.cancel_and_silence(job).await;
    let sent: usize = link.unread().iter().map(frame_len).sum();
    assert!(sent < ON_THE_WAY, "{sent} bytes of 480 KiB came after the cancel");
    assert_all_slots_free(&backend, &mut link).await;
    harness.stop().await;
}

fn frame_len(frame: &outpost::testkit::Frame) -> usize {
    match frame {
        outpost::testkit::Frame::Text(text) => text.len(),
        _ => 0,
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn with_the_terminal_frame_queued_behind_a_coordinator_that_does_not_read() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend).await;
    link.fail(LinkFault::StopReading);
    let mut pieces = vec![Bytes::from(vec![b'\n'; 192 * 1024])];
    pieces.extend(answer(Endpoint::ChatCompletions, "end", 1, 1));
    backend.reply([Reply::Stream(pieces)]);
    let job = link.job("m", "{}");
    backend.request().await.finished().await;
    link.cancel(job);
    harness.until(|state| state.jobs.cancelled == 1).await;
    link.resume_reading();
    link.cancel_and_silence(job).await;
    let frames = link.unread();
    let sent: usize = frames.iter().map(frame_len).sum();
    assert!(sent < ON_THE_WAY, "{sent} bytes of 192 KiB came after the cancel");
    assert_all_slots_free(&backend, &mut link).await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn of_one_job_leaves_the_others() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (harness, mut link) = agent(&backend).await;
    backend.reply_always(Reply::ByHand);
    let jobs = [(); 3].map(|()| link.job("m", "{}"));
    let mut requests = [backend.request().await, backend.request().await, backend.request().await];
    link.cancel_and_silence(jobs[1]).await;
    requests[1].dropped().await;
    for index in [0, 2] {
        requests[index].head();
        answer(Endpoint::ChatCompletions, "whole", 1, 1).into_iter().for_each(|piece| requests[index].piece(piece));
        requests[index].end();
        link.outcome_of(jobs[index]).await.done();
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn of_an_unknown_job_is_ignored() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend).await;
    link.cancel(JobId::random());
    let done = link.job("m", "{}");
    link.outcome_of(done).await.done();
    harness.until(|state| state.in_flight == 0).await;
    link.cancel(done);
    link.cancel(done);
    link.fence().await;
    assert!(link.unread_messages().is_empty());
    assert_eq!(harness.snapshot().jobs.cancelled, 0);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn as_the_job_ends_three_thousand_times_loses_no_slot() {
    // Each of 77 pairs of turns 39 times.
    const ROUNDS: u32 = 3003;
    let backend = ScriptedBackend::new("box", &["m"]);
    let (mut harness, mut link) = agent(&backend).await;
    let (mut done, mut others) = (0, 0);
    let whole = Box::new(Reply::saying(Endpoint::ChatCompletions, "hello"));
    for round in 0..ROUNDS {
        // Each round the cancel meets the job at another turn of the runtime.
        backend.reply_always(Reply::Turns(round % 11, whole.clone()));
        let job = link.job("m", "{}");
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        link.cancel_and_silence(job).await;
        for message in link.unread_messages() {
            match message {
                FromAgent::JobDone(_) => done += 1,
                FromAgent::JobChunk(_) => {}
                _ => others += 1,
            }
        }
    }
    let state = harness.until(|state| state.in_flight == 0).await;
    assert_eq!((state.jobs.admitted, state.jobs.done + state.jobs.cancelled), (ROUNDS.into(), ROUNDS.into()));
    // A job whose last frame was on its way as the cancel came is cancelled for the agent and done for the coordinator.
    assert!(state.jobs.done <= done && others == 0, "{done} done, {others} other messages, {state:?}");
    assert!(state.jobs.done > 300 && state.jobs.cancelled > 300, "both came about: {:?}", state.jobs);
    assert_all_slots_free(&backend, &mut link).await;
    harness.stop().await;
}
