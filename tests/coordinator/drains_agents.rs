//! With the extension `drain` an agent announces that it will stop. It gets no new job and finishes those that it has.

use std::time::Duration;

use outpost::messages::wire::{DrainNotice, ErrorCode, Extension, FromAgent};
use outpost::testkit::{AgentEvent, ScriptedAgent};

use super::fixture::{Answer, Coordinator, posting, soon};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

/// An agent with four slots for `m`, with which `drain` was agreed on.
async fn join(coordinator: &Coordinator, number: u8) -> ScriptedAgent {
    let mut agent = ScriptedAgent::agree(coordinator.agent_url(), number, &[Extension::Drain]).await;
    agent.offer(&["m"], 4).await;
    agent
}

async fn metric(coordinator: &Coordinator, name: &str) -> String {
    let page = Answer::of(coordinator.get("/metrics"), "").await.body;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap().to_owned()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_model_of_an_agent_that_drains_is_unavailable_and_not_unknown() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    agent.drain(0).await;
    agent.settle().await;
    let head = soon(posting(coordinator.addr(), CHAT, STREAM)).await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 503 ") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
    let answer = coordinator.ask(CHAT, STREAM).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"], &error["param"]), (503, &"model_unavailable".into(), &"model".into()));
    assert_eq!(error["type"], "server_error");
    let answer = coordinator.ask("/v1/messages", STREAM).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (503, &"api_error".into()));
    assert_eq!(coordinator.ask(CHAT, r#"{"model":"other"}"#).await.status, 404);
    assert_eq!(Answer::of(coordinator.get("/v1/models"), "").await.json()["data"], serde_json::json!([]));
    let refused = r#"outpost_coordinator_requests_refused_total{cause="model_unavailable"}"#;
    assert_eq!(metric(&coordinator, refused).await, "3");
    // Nothing came before the answer to a ping.
    agent.settle().await;
    agent.close(Some(1000)).await;
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1000, String::new()))));
    assert_eq!(agent.event().await, AgentEvent::Eof);
    soon(async { while coordinator.ask(CHAT, STREAM).await.status != 404 {} }).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn running_jobs_finish_and_new_ones_go_to_another_agent() {
    let coordinator = Coordinator::start().await;
    let mut first = join(&coordinator, 1).await;
    let running = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    let mut second = join(&coordinator, 2).await;
    first.drain(1).await;
    first.settle().await;
    for _ in 0..3 {
        let asking = coordinator.asking(CHAT, STREAM);
        let other = second.job().await.job_id;
        second.chunk(other, DONE).await;
        second.done(other).await;
        assert_eq!(soon(asking).await.unwrap().status, 200);
    }
    first.chunk(job, DONE).await;
    first.done(job).await;
    assert_eq!(soon(running).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_crossed_the_announcement_goes_to_another_agent_or_is_unavailable() {
    let coordinator = Coordinator::start().await;
    let mut first = join(&coordinator, 1).await;
    let mut second = join(&coordinator, 2).await;
    for other in [true, false] {
        let asking = coordinator.asking(CHAT, STREAM);
        let (agent, next) = if other { (&mut first, Some(&mut second)) } else { (&mut second, None) };
        let crossed = agent.job().await.job_id;
        agent.drain(0).await;
        agent.fail(crossed, ErrorCode::OutOfCapacity).await;
        match next {
            Some(next) => {
                let job = next.job().await.job_id;
                next.chunk(job, DONE).await;
                next.done(job).await;
                assert_eq!(soon(asking).await.unwrap().status, 200);
            }
            None => assert_eq!(soon(asking).await.unwrap().status, 503),
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_stops_waiting_when_the_last_agent_that_it_waits_for_drains() {
    let coordinator = Coordinator::start_with(|config| config.queue_time = Duration::from_secs(3600)).await;
    let (mut first, mut second) = (join(&coordinator, 1).await, join(&coordinator, 2).await);
    first.offer(&["m"], 0).await;
    second.offer(&["m", "n"], 0).await;
    let waits = coordinator.asking(CHAT, STREAM);
    coordinator.until_waiting(1).await;
    first.drain(0).await;
    first.settle().await;
    coordinator.until_waiting(1).await;
    second.drain(0).await;
    let answer = soon(waits).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"model_unavailable".into()));
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    coordinator.until_waiting(0).await;
    assert_eq!(metric(&coordinator, r#"outpost_coordinator_waits_total{outcome="draining"}"#).await, "1");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn operators_see_which_agents_drain() {
    let coordinator = Coordinator::start().await;
    let mut first = join(&coordinator, 1).await;
    let _second = join(&coordinator, 2).await;
    let draining = async || {
        let agents = Answer::of(coordinator.get("/api/agents"), "").await.json();
        agents.as_array().unwrap().iter().map(|agent| agent["draining"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draining().await, [false, false]);
    assert_eq!(metric(&coordinator, "outpost_coordinator_agents_draining").await, "0");
    // Again, and with another number, it is the same.
    for in_flight in [3, 2] {
        first.drain(in_flight).await;
    }
    first.settle().await;
    assert_eq!(draining().await, [true, false]);
    assert_eq!(metric(&coordinator, "outpost_coordinator_agents_draining").await, "1");
    assert_eq!(metric(&coordinator, "outpost_coordinator_agents").await, "2");
    drop(first);
    soon(async { while draining().await != [false] {} }).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_drain_that_can_not_be_read_or_was_not_agreed_on_is_skipped() {
    let coordinator = Coordinator::start_with(|config| config.job_timeout = Duration::from_secs(60)).await;
    let mut agent = join(&coordinator, 1).await;
    for field in ["", r#","in_flight":-1"#, r#","in_flight":"1""#, r#","in_flight":null"#, r#","in_flight":[]"#] {
        agent.text(format!(r#"{{"type":"drain"{field}}}"#)).await;
    }
    let mut base = ScriptedAgent::join(coordinator.agent_url(), 2, &["n"], 1).await;
    base.send(&FromAgent::Drain(DrainNotice { in_flight: 0 })).await;
    base.settle().await;
    for (agent, model) in [(&mut agent, "m"), (&mut base, "n")] {
        agent.settle().await;
        let asking = coordinator.asking(CHAT, &format!(r#"{{"model":"{model}","stream":true}}"#));
        let job = agent.job().await.job_id;
        agent.chunk(job, DONE).await;
        agent.done(job).await;
        assert_eq!(soon(asking).await.unwrap().status, 200);
    }
}
