//! A process that gets a signal to stop ends its jobs first, then the connection, then itself, with exit code 0.

use outpost::messages::ids::JobId;
use outpost::messages::wire::ErrorCode;
use outpost::testkit::{CoordinatorLink, DialFault, LinkFault, Request, ScriptedBackend, ScriptedCoordinator};
use rustix::process::Signal;

use crate::support::{
    Finished, HELLO, Home, NO_BACKEND, Outpost, agent, backend, close_code, coordinator, entry, finish, reset, token,
    within,
};

/// An agent with a job that is running: its first token was sent.
struct Working {
    coordinator: ScriptedCoordinator,
    process: Outpost,
    link: CoordinatorLink,
    backend: ScriptedBackend,
    request: Request,
    job: JobId,
    _home: Home,
}

async fn working(grace: &str) -> Working {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let backend = backend("m").await;
    let process = agent(&coordinator, &home, &entry(&backend)).env("OUTPOST_SHUTDOWN_GRACE", grace).start();
    let mut link = coordinator.serving("m").await;
    let job = link.job("m", HELLO);
    let request = backend.request().await;
    request.head();
    request.piece(token("one"));
    assert_eq!(link.chunk_of(job).await, token("one"));
    Working { coordinator, process, link, backend, request, job, _home: home }
}

fn assert_in_order(log: &str, lines: &[&str]) {
    let mut rest = log;
    for line in lines {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("no {line:?} in its place in\n{log}")).1;
    }
}

async fn drains(signal: Signal, name: &str) {
    let Working { mut process, mut link, backend, request, job, .. } = working("30s").await;
    process.signal(signal);
    process.logged("stopping, no new jobs in_flight=1 grace_s=30").await;
    let refused = link.job("m", HELLO);
    let trace = link.outcome_of(refused).await;
    assert!(trace.bytes.is_empty());
    assert_eq!(trace.code(), ErrorCode::OutOfCapacity);
    request.piece(token("two"));
    finish(&request);
    let trace = link.outcome_of(job).await;
    assert!(trace.bytes.starts_with(&token("two")));
    assert_eq!(trace.done().tokens.output, 5);
    assert_eq!(close_code(&mut link).await, Some(1000));
    assert!(backend.is_idle());
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &[&format!("signal received signal={name}"), "stopping", "stopped"]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn at_sigterm_the_running_job_ends_well_and_a_new_one_is_refused() {
    drains(Signal::TERM, "Terminate").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn at_sigint_the_same() {
    drains(Signal::INT, "Interrupt").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_second_signal_ends_running_jobs_at_once() {
    let Working { mut process, mut link, mut request, job, backend: _backend, .. } = working("1h").await;
    process.signal(Signal::TERM);
    process.logged("stopping, no new jobs").await;
    process.signal(Signal::INT);
    let trace = link.outcome_of(job).await;
    let error = trace.error();
    assert_eq!((error.error_code, error.tokens_emitted), (ErrorCode::Internal, token("one").len() as u64));
    assert_eq!(close_code(&mut link).await, Some(1000));
    request.dropped().await;
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &["running jobs ended early in_flight=1", "stopped"]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn running_jobs_are_ended_when_the_grace_is_over() {
    let Working { mut process, mut link, mut request, job, backend: _backend, .. } = working("1s").await;
    process.signal(Signal::TERM);
    process.logged("stopping, no new jobs in_flight=1 grace_s=1").await;
    // The job runs on meanwhile.
    request.piece(token("two"));
    assert_eq!(link.chunk_of(job).await, token("two"));
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
    assert_eq!(close_code(&mut link).await, Some(1000));
    request.dropped().await;
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &["stopping, no new jobs", "running jobs ended early in_flight=1", "stopped"]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_that_ends_while_draining_is_not_made_again() {
    let Working { coordinator, mut process, link, mut request, backend: _backend, .. } = working("30s").await;
    process.signal(Signal::TERM);
    process.logged("stopping, no new jobs").await;
    reset(link);
    request.dropped().await;
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_eq!(coordinator.dials().len(), 1);
}

/// It ends without another dial, and without waiting for the one under way.
async fn ends_at_once(process: Outpost, dialled: usize) -> Finished {
    process.signal(Signal::TERM);
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stderr.matches("dialling ").count(), dialled, "{}", ended.stderr);
    ended
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_idle_agent_closes_its_connection_and_ends() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let process = agent(&coordinator, &home, NO_BACKEND).start();
    let mut link = coordinator.welcome().await;
    link.ping(b"settled").await;
    process.signal(Signal::TERM);
    assert_eq!(close_code(&mut link).await, Some(1000));
    process.finish().await.assert_code(0);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_dial_under_way_is_dropped() {
    let (coordinator, home) = (coordinator().await, Home::new());
    coordinator.fail_dials([DialFault::Hangs]);
    let process = agent(&coordinator, &home, NO_BACKEND).start();
    coordinator.dialled(1).await;
    let ended = ends_at_once(process, 1).await;
    // The limit of a dial was not waited for.
    assert!(!ended.stderr.contains("connection failed"), "{}", ended.stderr);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_handshake_under_way_is_dropped() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let process = agent(&coordinator, &home, NO_BACKEND).start();
    let mut link = coordinator.next_connection().await;
    link.challenge();
    link.expect_auth().await;
    let ended = ends_at_once(process, 1).await;
    assert!(!ended.stderr.contains("connection failed"), "{}", ended.stderr);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_wait_for_the_next_dial_is_cut_short() {
    let (coordinator, home) = (coordinator().await, Home::new());
    coordinator.fail_dials([DialFault::Refused, DialFault::Refused]);
    let mut process = agent(&coordinator, &home, NO_BACKEND).start();
    // Two failures: the wait is 2 s before its random factor.
    process.logged("failures=2").await;
    process.logged("next try").await;
    ends_at_once(process, 2).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_reads_nothing_does_not_hold_up_the_end() {
    let Working { mut process, mut link, request, backend: _backend, .. } = working("1s").await;
    link.fail(LinkFault::StopReading);
    // More than the agent and the system hold.
    let event = token(&"x".repeat(64 << 10));
    for _ in 0..1000 {
        request.piece(event.clone());
    }
    process.signal(Signal::TERM);
    process.logged("running jobs ended early").await;
    let ended = within("end", process.finish()).await;
    ended.assert_code(0);
    drop(link);
}
