//! Which agent gets a job.

use outpost::testkit::ScriptedAgent;

use super::fixture::{Coordinator, soon, without_queue};

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
    let coordinator = Coordinator::start_with(without_queue).await;
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
async fn an_agent_that_withdraws_a_model_gets_no_job_for_it() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.offer(&[], 1).await;
    assert_eq!(coordinator.ask(CHAT, STREAM).await.status, 404);
}
