//! Jobs that outlive their connection: the extension `resume`.

use std::time::Duration;

use outpost::messages::ids::JobId;
use outpost::messages::wire::{BinaryChunk, ErrorCode, Extension, Extensions, FromAgent, KeptJob};
use outpost::testkit::{
    AgentBuilder, CoordinatorLink, DialFault, Frame, Harness, LinkFault, RESUME_WINDOW, Reply, ScriptedBackend,
    job_frame,
};

use crate::half_done::{DONE, TEXT, finish, half_done};

fn only(extensions: &[Extension]) -> Extensions {
    extensions.iter().copied().collect()
}

/// An agent with one backend, on a connection with a session named `s-1`.
async fn agent(
    build: impl FnOnce(AgentBuilder) -> AgentBuilder,
    extensions: Extensions,
) -> (Harness, ScriptedBackend, CoordinatorLink) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::ByHand);
    let mut harness = build(Harness::builder().backend(&backend)).start();
    harness.coordinator.offer(extensions);
    let link = harness.coordinator.new_session("s-1", "m").await;
    (harness, backend, link)
}

async fn resuming(extensions: &[Extension]) -> (Harness, ScriptedBackend, CoordinatorLink) {
    agent(|builder| builder, only(extensions)).await
}

/// The next connection up to the answer to its challenge, and the jobs that the agent lists there.
async fn returns(harness: &mut Harness) -> (CoordinatorLink, Vec<KeptJob>) {
    let (link, response) = harness.coordinator.challenged().await;
    let listed = response.resume.map(|resume| {
        assert_eq!(resume.session.as_str(), "s-1");
        resume.jobs
    });
    (link, listed.unwrap_or_default())
}

fn kept(job_id: JobId, offset: usize, ended: bool) -> KeptJob {
    KeptJob { job_id, offset: offset as u64, ended }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_goes_on_where_the_coordinator_wants_whatever_ends_the_connection() {
    for extensions in [
        &[Extension::Resume][..],
        &[Extension::Resume, Extension::Binary],
        &[Extension::Resume, Extension::Endpoints],
        &[Extension::Resume, Extension::Endpoints, Extension::Binary],
    ] {
        for (received, fault) in [(0, LinkFault::Reset), (1, LinkFault::HangUp), (TEXT.len(), LinkFault::Reset)] {
            let (mut harness, backend, mut link) = resuming(extensions).await;
            let (job, mut request) = half_done(&backend, &mut link).await;
            link.fail(fault);
            request.piece(TEXT);
            request.taken(2).await;
            let (mut link, listed) = returns(&mut harness).await;
            assert_eq!(listed, [kept(job, 2 * TEXT.len(), false)]);
            link.resume_session("s-2", &[(job, received as u64)]);
            assert!(matches!(link.next().await, FromAgent::Capabilities(_)), "capabilities are the first frame");
            finish(&request);
            let rest = link.outcome_of(job).await;
            let whole = [TEXT, TEXT, DONE].concat();
            assert_eq!(rest.bytes, whole.as_bytes()[received..], "{extensions:?} {received}");
            rest.done();
            assert_eq!(backend.requests().len(), 1);
            harness.until(|state| state.in_flight == 0).await;
            harness.stop().await;
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_ends_without_a_connection_frees_its_slot_and_waits_with_its_end() {
    let (mut harness, backend, mut link) = agent(|builder| builder.max_concurrent(1), only(&[Extension::Resume])).await;
    let (job, request) = half_done(&backend, &mut link).await;
    link.ack(job, TEXT.len() as u64);
    link.ping(b"acknowledged").await;
    link.fail(LinkFault::Reset);
    finish(&request);
    harness.until(|state| state.in_flight == 0 && state.jobs.done == 1).await;
    for session in ["s-1", "s-1"] {
        let (mut link, listed) = returns(&mut harness).await;
        assert_eq!(listed, [kept(job, TEXT.len() + DONE.len(), true)]);
        link.resume_session(session, &[(job, TEXT.len() as u64)]);
        let rest = link.outcome_of(job).await;
        assert_eq!(rest.bytes, DONE.as_bytes());
        rest.done();
        // Its slot is free.
        let (next, other) = half_done(&backend, &mut link).await;
        link.cancel_and_silence(next).await;
        drop(other);
        // Without an acknowledgement of the end it is listed again.
        link.fail(LinkFault::Reset);
    }
    let (mut link, listed) = returns(&mut harness).await;
    assert_eq!(listed.len(), 1);
    link.resume_session("s-1", &[(job, (TEXT.len() + DONE.len()) as u64)]);
    assert!(link.outcome_of(job).await.bytes.is_empty());
    link.ack_final(job);
    link.ping(b"acknowledged").await;
    link.fail(LinkFault::Reset);
    let (_, listed) = returns(&mut harness).await;
    assert_eq!(listed, []);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_the_coordinator_does_not_want_is_cancelled() {
    let (mut harness, backend, mut link) = resuming(&[Extension::Resume]).await;
    let (unwanted, mut request) = half_done(&backend, &mut link).await;
    let (job, other) = half_done(&backend, &mut link).await;
    link.fail(LinkFault::Reset);
    let (mut link, listed) = returns(&mut harness).await;
    assert_eq!(listed.len(), 2);
    link.resume_session("s-1", &[(JobId::random(), 3), (job, TEXT.len() as u64)]);
    request.dropped().await;
    finish(&other);
    link.outcome_of(job).await.done();
    // A job never runs twice: nothing answers to an id that has ended.
    let mut again = job_frame("m", "{}");
    for id in [unwanted, job] {
        again.job_id = id;
        link.send_job(&again);
    }
    link.fence().await;
    assert_eq!(backend.requests().len(), 2);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_jobs_end_when_the_window_has_passed_or_another_session_begins() {
    for opens_another in [false, true] {
        let (mut harness, backend, mut link) = resuming(&[Extension::Resume]).await;
        let (_, mut request) = half_done(&backend, &mut link).await;
        link.fail(LinkFault::Reset);
        if opens_another {
            let (link, _) = returns(&mut harness).await;
            link.open_session("s-2");
            request.dropped().await;
        } else {
            harness.coordinator.set_outage(Some(DialFault::Refused));
            let begun = tokio::time::Instant::now();
            request.dropped().await;
            assert!((RESUME_WINDOW..RESUME_WINDOW + Duration::from_secs(1)).contains(&begun.elapsed()));
        }
        let state = harness.until(|state| state.in_flight == 0).await;
        assert_eq!(state.jobs.cancelled, 1);
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_offset_that_is_not_kept_ends_that_job_alone() {
    let len = TEXT.len() as u64;
    for (wanted, ends_before) in [(len - 1, false), (len + 1, false), (u64::MAX, true), (0, true)] {
        let (mut harness, backend, mut link) = resuming(&[Extension::Resume]).await;
        let (bad, request) = half_done(&backend, &mut link).await;
        let (good, other) = half_done(&backend, &mut link).await;
        link.ack(bad, len);
        link.ping(b"acknowledged").await;
        link.fail(LinkFault::Reset);
        if ends_before {
            request.end();
            harness.until(|state| state.in_flight == 1).await;
        }
        let (mut link, _) = returns(&mut harness).await;
        link.resume_session("s-1", &[(bad, wanted), (good, len)]);
        let rest = link.outcome_of(bad).await;
        assert_eq!((rest.code(), rest.bytes.len()), (ErrorCode::Internal, 0), "{wanted}");
        finish(&other);
        link.outcome_of(good).await.done();
        harness.until(|state| state.in_flight == 0).await;
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn nonsense_in_acknowledgements_is_ignored() {
    let (mut harness, backend, mut link) = resuming(&[Extension::Resume]).await;
    let (job, request) = half_done(&backend, &mut link).await;
    link.ack(job, TEXT.len() as u64 + 1);
    link.ack(job, u64::MAX);
    link.ack(JobId::random(), 1);
    link.ack_final(job);
    link.ack_final(JobId::random());
    for text in ["{}", r#"{"job_id":7}"#, r#"{"offset":-1}"#, r#"{"final":"yes"}"#] {
        link.send_text(
            text.replacen('{', r#"{"type":"ack","job_id":"6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10","#, 1)
                .replace(",}", "}"),
        );
    }
    link.ack(job, 3);
    link.ack(job, 1);
    link.ping(b"acknowledged").await;
    link.fail(LinkFault::Reset);
    let (mut link, _) = returns(&mut harness).await;
    link.resume_session("s-1", &[(job, 3)]);
    request.end();
    assert_eq!(link.outcome_of(job).await.bytes, TEXT.as_bytes()[3..]);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_is_not_acknowledged_holds_back_its_backend_and_no_other_job() {
    const PIECE: usize = 32 * 1024;
    let (harness, backend, mut link) = agent(
        |builder| builder.settings(|settings| (settings.kept_per_job, settings.kept) = (1 << 20, 1 << 20)),
        only(&[Extension::Resume, Extension::Binary]),
    )
    .await;
    let jobs = [link.job("m", "{}"), link.job("m", "{}"), link.job("m", "{}")];
    let mut requests = Vec::new();
    for _ in jobs {
        let request = backend.request().await;
        request.head();
        (0..100).for_each(|_| request.piece(vec![b'x'; PIECE]));
        requests.push(request);
    }
    let mut received = [0; 3];
    while received.iter().sum::<usize>() < (1 << 20) + 3 * 96 * 1024 {
        let Frame::Binary(bytes) = link.next_frame().await else { continue };
        let chunk = BinaryChunk::parse(&bytes).unwrap();
        let at = jobs.iter().position(|job| job.uuid() == chunk.job).unwrap();
        received[at] += chunk.bytes.len();
    }
    link.ping(b"nothing more comes").await;
    assert!(received.iter().all(|received| *received >= 96 * 1024 && *received <= 1 << 20), "{received:?}");
    assert!(link.unread().is_empty());
    // Each acknowledgement makes room for as many bytes.
    link.ack(jobs[2], received[2] as u64);
    let more = link.chunk_of(jobs[2]).await;
    assert!(!more.is_empty());
    drop(requests);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_incomplete_session_fails_the_handshake_and_keeps_the_jobs() {
    let (mut harness, backend, mut link) = resuming(&[Extension::Resume]).await;
    let (job, request) = half_done(&backend, &mut link).await;
    link.fail(LinkFault::Reset);
    let (link, _) = returns(&mut harness).await;
    link.accept(None);
    let (mut link, listed) = returns(&mut harness).await;
    assert_eq!(listed, [kept(job, TEXT.len(), false)]);
    link.resume_session("s-1", &[(job, 0)]);
    request.end();
    assert_eq!(link.outcome_of(job).await.bytes, TEXT.as_bytes());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_hundred_cuts_leave_slots_and_memory_as_they_were() {
    let (mut harness, backend, mut link) = agent(|builder| builder.max_concurrent(2), only(&[Extension::Resume])).await;
    let mut long = job_frame("m", "{}");
    long.deadline = Duration::from_hours(1);
    let job = link.send_job(&long);
    let mut request = backend.request().await;
    request.head();
    request.piece(TEXT);
    let mut received = link.chunk_of(job).await.len() as u64;
    for cut in 0..100 {
        link.fail(if cut % 2 == 0 { LinkFault::Reset } else { LinkFault::HangUp });
        request.piece(TEXT);
        request.taken(cut + 2).await;
        let (next, listed) = returns(&mut harness).await;
        assert_eq!(listed.len(), 1);
        link = next;
        link.resume_session("s-1", &[(job, received)]);
        received += link.chunk_of(job).await.len() as u64;
        link.ack(job, received);
        link.ping(b"acknowledged").await;
    }
    assert_eq!(harness.snapshot().in_flight, 1);
    request.end();
    assert!(link.outcome_of(job).await.bytes.is_empty());
    assert_eq!(received, 101 * TEXT.len() as u64);
    assert_eq!(backend.requests().len(), 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn what_the_next_connection_did_not_agree_on_is_not_sent_there() {
    let (mut harness, backend, mut link) =
        resuming(&[Extension::Resume, Extension::Endpoints, Extension::Binary]).await;
    let (job, request) = half_done(&backend, &mut link).await;
    link.fail(LinkFault::Reset);
    harness.coordinator.offer(only(&[Extension::Resume]));
    let (mut link, _) = returns(&mut harness).await;
    link.resume_session("s-1", &[(job, 0)]);
    finish(&request);
    assert_eq!(link.outcome_of(job).await.bytes, [TEXT, DONE].concat().as_bytes());
    harness.stop().await;
}
