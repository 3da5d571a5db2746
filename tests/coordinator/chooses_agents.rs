//! Which agent gets a job, and what happens when it does not want it or is lost.

use outpost::messages::wire::ErrorCode;
use outpost::testkit::ScriptedAgent;

use super::fixture::{Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true}"#;

/// Two agents that offer `m`. The first is asked first.
async fn two(coordinator: &Coordinator, slots: u32) -> (ScriptedAgent, ScriptedAgent) {
    (
        ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], slots).await,
        ScriptedAgent::join(coordinator.agent_url(), 2, &["m"], slots).await,
    )
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_are_spread_over_the_agents() {
    let coordinator = Coordinator::start().await;
    let (mut first, mut second) = two(&coordinator, 2).await;
    for _ in 0..2 {
        let _one = coordinator.asking(CHAT, STREAM);
        first.job().await;
        let _other = coordinator.asking(CHAT, STREAM);
        second.job().await;
    }
    let answer = coordinator.ask(CHAT, STREAM).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (429, &"rate_limit_error".into()));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_ends_a_job_is_free_again() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for _ in 0..3 {
        let asking = coordinator.asking(CHAT, STREAM);
        let job = agent.job().await.job_id;
        agent.chunk(job, "data: [DONE]\n\n").await;
        agent.done(job).await;
        assert_eq!(soon(asking).await.unwrap().body, "data: [DONE]\n\n");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refused_job_goes_to_the_next_agent_under_another_id() {
    let coordinator = Coordinator::start().await;
    for code in [ErrorCode::OutOfCapacity, ErrorCode::ModelNotLoaded] {
        let (mut first, mut second) = two(&coordinator, 1).await;
        let asking = coordinator.asking(CHAT, STREAM);
        let refused = first.job().await.job_id;
        first.fail(refused, code).await;
        let taken = second.job().await.job_id;
        assert_ne!(refused, taken);
        second.chunk(taken, "data: [DONE]\n\n").await;
        second.done(taken).await;
        assert_eq!(soon(asking).await.unwrap().body, "data: [DONE]\n\n");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_agent_is_tried_once_and_the_last_refusal_is_the_response() {
    let coordinator = Coordinator::start().await;
    let (mut first, mut second) = two(&coordinator, 4).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    first.fail(job, ErrorCode::OutOfCapacity).await;
    let job = second.job().await.job_id;
    second.fail(job, ErrorCode::ModelNotLoaded).await;
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &"model_not_found".into()));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_failure_is_not_tried_elsewhere() {
    let coordinator = Coordinator::start().await;
    let (mut first, mut second) = two(&coordinator, 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    first.fail(job, ErrorCode::BackendUnreachable).await;
    assert_eq!(soon(asking).await.unwrap().status, 502);
    // Nothing came before the answer to a ping.
    second.settle().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_is_lost_before_its_first_byte_goes_to_the_next_agent() {
    let coordinator = Coordinator::start().await;
    let (mut first, mut second) = two(&coordinator, 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let lost = first.job().await.job_id;
    drop(first);
    let taken = second.job().await.job_id;
    assert_ne!(lost, taken);
    second.chunk(taken, "data: [DONE]\n\n").await;
    second.done(taken).await;
    assert_eq!(soon(asking).await.unwrap().body, "data: [DONE]\n\n");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_is_lost_three_times_is_not_sent_again() {
    let coordinator = Coordinator::start().await;
    let mut agents = Vec::new();
    for number in 1..=4 {
        agents.push(ScriptedAgent::join(coordinator.agent_url(), number, &["m"], 1).await);
    }
    let mut spared = agents.pop().unwrap();
    let asking = coordinator.asking(CHAT, STREAM);
    for mut agent in agents {
        agent.job().await;
    }
    assert_eq!(soon(asking).await.unwrap().status, 502);
    // Nothing came before the answer to a ping.
    spared.settle().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_lost_before_the_first_byte_is_a_bad_gateway_where_there_is_no_other() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    agent.job().await;
    drop(agent);
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_error".into()));
    assert_eq!(coordinator.ask(CHAT, STREAM).await.status, 404);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_lost_in_the_middle_ends_the_stream_with_an_error_event() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.chunk(job, "data: 1\n\n").await;
    agent.settle().await;
    drop(agent);
    let answer = soon(asking).await.unwrap();
    assert_eq!(answer.status, 200);
    let event = answer.body.strip_prefix("data: 1\n\ndata: ").unwrap();
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["error"]["code"], "upstream_error");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_withdraws_a_model_gets_no_job_for_it() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.offer(&[], 1).await;
    assert_eq!(coordinator.ask(CHAT, STREAM).await.status, 404);
}
