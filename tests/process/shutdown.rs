//! How a process ends that is told to: jobs first, then the connection, then itself, with exit code 0.

use outpost::messages::wire::ErrorCode;
use rustix::process::Signal;

use crate::support::{
    Backend, Coordinator, End, Exchange, Finished, Home, NOBODY, Outpost, Session, agent, token, within,
};

/// An agent with a job that runs: its first token is up.
struct Busy {
    coordinator: Coordinator,
    process: Outpost,
    session: Session,
    backend: Backend,
    exchange: Exchange,
    job: outpost::messages::ids::JobId,
    _home: Home,
}

async fn busy(grace: &str) -> Busy {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut backend = Backend::start("m").await;
    let process = agent(&coordinator, &home, &backend.entry()).env("OUTPOST_SHUTDOWN_GRACE", grace).start();
    let mut session = coordinator.serving("m").await;
    let job = session.start_job("m").await;
    let mut exchange = backend.request().await;
    exchange.open_stream().await;
    exchange.send(token("one")).await;
    assert_eq!(session.chunk(job).await, token("one").as_bytes());
    Busy { coordinator, process, session, backend, exchange, job, _home: home }
}

fn assert_in_order(log: &str, lines: &[&str]) {
    let mut rest = log;
    for line in lines {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("no {line:?} in its place in\n{log}")).1;
    }
}

async fn drains(signal: Signal, name: &str) {
    let Busy { mut process, mut session, backend, mut exchange, job, .. } = busy("30s").await;
    process.signal(signal);
    process.logged("stopping, no new jobs in_flight=1 grace_s=30").await;
    let refused = session.start_job("m").await;
    let (bytes, end) = session.rest(refused).await;
    assert!(bytes.is_empty());
    end.assert_code(ErrorCode::OutOfCapacity);
    exchange.send(token("two")).await;
    exchange.finish().await;
    let (bytes, end) = session.rest(job).await;
    assert!(bytes.starts_with(token("two").as_bytes()));
    assert_eq!(end.done().tokens.output, 5);
    assert_eq!(session.end().await, End::Close(Some(1000)));
    assert!(backend.is_idle());
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &[&format!("signal received signal={name}"), "stopping", "stopped"]);
}

#[tokio::test]
async fn at_sigterm_the_running_job_ends_well_and_a_new_one_is_refused() {
    drains(Signal::TERM, "Terminate").await;
}

#[tokio::test]
async fn at_sigint_the_same() {
    drains(Signal::INT, "Interrupt").await;
}

#[tokio::test]
async fn a_second_signal_ends_what_runs_at_once() {
    let Busy { mut process, mut session, mut exchange, job, .. } = busy("1h").await;
    process.signal(Signal::TERM);
    process.logged("stopping, no new jobs").await;
    process.signal(Signal::INT);
    let (_, end) = session.rest(job).await;
    let error = end.failed();
    assert_eq!((error.error_code, error.tokens_emitted), (ErrorCode::Internal, token("one").len() as u64));
    assert_eq!(session.end().await, End::Close(Some(1000)));
    exchange.closed().await;
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &["running jobs ended early in_flight=1", "stopped"]);
}

#[tokio::test]
async fn when_the_grace_is_over_what_runs_is_ended() {
    let Busy { mut process, mut session, mut exchange, job, .. } = busy("6s").await;
    process.signal(Signal::TERM);
    process.logged("waiting for running jobs in_flight=1 left_s=").await;
    // The job lives on meanwhile.
    exchange.send(token("two")).await;
    assert_eq!(session.chunk(job).await, token("two").as_bytes());
    session.rest(job).await.1.assert_code(ErrorCode::Internal);
    assert_eq!(session.end().await, End::Close(Some(1000)));
    exchange.closed().await;
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &["waiting for running jobs", "running jobs ended early in_flight=1", "stopped"]);
}

#[tokio::test]
async fn a_connection_that_ends_while_draining_is_not_made_again() {
    let Busy { coordinator, mut process, session, mut exchange, .. } = busy("30s").await;
    process.signal(Signal::TERM);
    process.logged("stopping, no new jobs").await;
    session.reset();
    exchange.closed().await;
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stderr.matches("dialling ").count(), 1);
    drop(coordinator);
}

/// It ends without another try, and without waiting for the one under way.
async fn ends_at_once(process: Outpost, dialled: usize) -> Finished {
    process.signal(Signal::TERM);
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stderr.matches("dialling ").count(), dialled, "{}", ended.stderr);
    ended
}

#[tokio::test]
async fn an_idle_agent_closes_its_connection_and_ends() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let process = agent(&coordinator, &home, NOBODY).start();
    let mut session = coordinator.join().await;
    session.settle().await;
    process.signal(Signal::TERM);
    assert_eq!(session.end().await, End::Close(Some(1000)));
    drop(session);
    process.finish().await.assert_code(0);
}

#[tokio::test]
async fn a_dial_under_way_is_dropped() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let process = agent(&coordinator, &home, NOBODY).start();
    let _silent = coordinator.tcp().await;
    let ended = ends_at_once(process, 1).await;
    // The limit of a dial was not waited for.
    assert!(!ended.stderr.contains("connection failed"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_handshake_under_way_is_dropped() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let process = agent(&coordinator, &home, NOBODY).start();
    let mut session = coordinator.accept().await;
    session.challenge().await;
    let ended = ends_at_once(process, 1).await;
    assert!(!ended.stderr.contains("connection failed"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_wait_for_the_next_try_is_cut_short() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut process = agent(&coordinator, &home, NOBODY).start();
    for _ in 0..2 {
        drop(coordinator.tcp().await);
    }
    // Two failures: the wait is 2 s before its random factor.
    process.logged("failures=2").await;
    process.logged("next try").await;
    ends_at_once(process, 2).await;
}

#[tokio::test]
async fn a_coordinator_that_reads_nothing_does_not_hold_up_the_end() {
    let Busy { mut process, session, mut exchange, .. } = busy("1s").await;
    let event = token(&"x".repeat(64 << 10));
    let flood = async {
        loop {
            exchange.send(&event).await;
        }
    };
    tokio::select! {
        () = flood => {}
        () = async {
            process.signal(Signal::TERM);
            process.logged("running jobs ended early").await;
        } => {}
    }
    let ended = within("end", process.finish()).await;
    ended.assert_code(0);
    drop(session);
}
