//! A stop of the coordinator: it is announced to agents with the extension `handover`, running jobs end, and nothing new is taken.

use std::time::Duration;

use outpost::messages::ids::JobId;
use outpost::messages::wire::{Extension, FromCoordinator};
use outpost::testkit::{AgentEvent, ScriptedAgent};

use super::fixture::{Answer, Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

async fn join(coordinator: &Coordinator, number: u8, extensions: &[Extension]) -> ScriptedAgent {
    let mut agent = ScriptedAgent::agree(coordinator.agent_url(), number, extensions).await;
    agent.offer(&["m"], 1).await;
    agent
}

fn stopping(coordinator: &Coordinator) -> actix_rt::task::JoinHandle<()> {
    let handle = coordinator.handle().clone();
    actix_rt::spawn(async move { handle.stop().await })
}

async fn job(agent: &mut ScriptedAgent) -> JobId {
    let job = agent.job().await.job_id;
    agent.chunk(job, "data: 1\n\n").await;
    agent.settle().await;
    job
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stop_tells_the_agents_refuses_what_is_new_and_lets_jobs_end() {
    let grace = Duration::from_secs(30);
    let coordinator = Coordinator::start_with(|config| config.stop_grace = grace).await;
    let mut agent = join(&coordinator, 1, &[Extension::Handover]).await;
    let mut base = join(&coordinator, 2, &[]).await;
    let asking = [coordinator.asking(CHAT, STREAM), coordinator.asking(CHAT, STREAM)];
    let (first, second) = (job(&mut agent).await, job(&mut base).await);
    let stopping = stopping(&coordinator);
    assert_eq!(agent.frame().await, FromCoordinator::Handover { deadline: Some(grace) });

    let health = Answer::of(coordinator.get("/healthz"), "").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("stopping")));
    let refused = soon(coordinator.post(CHAT).send_body(STREAM)).await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    let connection =
        refused.headers().get("connection").expect("a retry on this connection would reach the same process");
    assert_eq!(connection, "close");
    let dialled = soon(awc::Client::default().ws(coordinator.url("/agent")).connect()).await;
    assert!(matches!(dialled, Err(awc::error::WsClientError::InvalidResponseStatus(status)) if status == 503));

    agent.chunk(first, DONE).await;
    agent.done(first).await;
    agent.close(Some(1000)).await;
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1000, String::new()))));
    base.chunk(second, DONE).await;
    base.done(second).await;
    assert_eq!(base.event().await, AgentEvent::Close(Some((1001, "drain:deploy".into()))), "and nothing before it");
    base.close(None).await;
    for asking in asking {
        assert_eq!(soon(asking).await.unwrap().body, format!("data: 1\n\n{DONE}"));
    }
    soon(stopping).await.unwrap();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_time_that_a_handover_announces_is_in_the_bounds_of_the_protocol() {
    for (grace, announced) in [(Duration::ZERO, 1), (Duration::from_secs(3600), 600)] {
        let coordinator = Coordinator::start_with(|config| config.stop_grace = grace).await;
        let mut agent = join(&coordinator, 1, &[Extension::Handover]).await;
        let stopping = stopping(&coordinator);
        let deadline = Some(Duration::from_secs(announced));
        assert_eq!(agent.frame().await, FromCoordinator::Handover { deadline });
        assert_eq!(agent.event().await, AgentEvent::Close(Some((1001, "drain:deploy".into()))));
        agent.close(None).await;
        soon(stopping).await.unwrap();
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_wait_for_no_agent_once_the_coordinator_stops() {
    let coordinator = Coordinator::start_with(|config| config.stop_grace = Duration::from_secs(60)).await;
    let mut before = join(&coordinator, 1, &[Extension::Resume]).await;
    let lost_before = coordinator.asking(CHAT, STREAM);
    job(&mut before).await;
    let mut after = join(&coordinator, 2, &[Extension::Resume, Extension::Handover]).await;
    let lost_after = coordinator.asking(CHAT, STREAM);
    job(&mut after).await;
    drop(before);
    let agents = || async { Answer::of(coordinator.get("/api/agents"), "").await.json().as_array().map(Vec::len) };
    soon(async { while agents().await != Some(1) {} }).await;
    let stopping = stopping(&coordinator);
    assert!(soon(lost_before).await.unwrap().body.contains("the connection to the agent was lost"));
    drop(after);
    assert!(soon(lost_after).await.unwrap().body.contains("the connection to the agent was lost"));
    soon(stopping).await.unwrap();
}
