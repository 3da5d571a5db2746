//! With the extension `sizes` an agent reports the largest frame that it takes, and gets none above that.

use std::time::Duration;

use outpost::messages::wire::{Extension, FromCoordinator};
use outpost::testkit::ScriptedAgent;

use super::fixture::{Answer, Coordinator, soon, without_queue};

const CHAT: &str = "/v1/chat/completions";
const DONE: &str = "data: [DONE]\n\n";

fn request(filler: usize) -> String {
    format!(r#"{{"model":"m","stream":true,"x":"{}"}}"#, "y".repeat(filler))
}

/// An agent with one slot for `m` that takes frames up to this size.
async fn limited(coordinator: &Coordinator, number: u8, limit: u64) -> ScriptedAgent {
    let mut agent = ScriptedAgent::agree(coordinator.agent_url(), number, &[Extension::Sizes]).await;
    agent.offer_up_to(&["m"], 1, limit).await;
    agent
}

/// Sends a request, which must reach this agent, and returns the length of its frame.
async fn served_by(agent: &mut ScriptedAgent, coordinator: &Coordinator, body: &str) -> usize {
    let asking = coordinator.asking(CHAT, body);
    let job = agent.job().await;
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);
    serde_json::to_string(&FromCoordinator::Job(job)).unwrap().len()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_whole_frame_counts_to_the_byte() {
    let coordinator = Coordinator::start().await;
    let mut agent = limited(&coordinator, 1, 1 << 20).await;
    let length = served_by(&mut agent, &coordinator, &request(3000)).await;
    agent.offer_up_to(&["m"], 1, length as u64).await;
    assert_eq!(served_by(&mut agent, &coordinator, &request(3000)).await, length);
    // White space around the object is not sent.
    assert_eq!(served_by(&mut agent, &coordinator, &format!(" \n{}\r\n", request(3000))).await, length);
    let answer = coordinator.ask(CHAT, &request(3001)).await;
    let message = format!("the request makes a message of {} bytes to an agent, and the limit is {length}", length + 1);
    assert_eq!((answer.status, answer.json()["error"]["message"].as_str()), (413, Some(message.as_str())));
    assert_eq!(answer.json()["error"]["code"], "request_too_large");
    let answer = coordinator.ask("/v1/messages", &request(3001)).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (413, &"request_too_large".into()));
    agent.settle().await;
    assert_eq!(served_by(&mut agent, &coordinator, &request(3000)).await, length, "no slot was spent");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_large_request_goes_to_the_agent_that_takes_it() {
    let coordinator = Coordinator::start_with(without_queue).await;
    let mut small = limited(&coordinator, 1, 2000).await;
    let mut large = limited(&coordinator, 2, 8000).await;
    for _ in 0..3 {
        served_by(&mut large, &coordinator, &request(3000)).await;
    }
    let _taken = coordinator.asking(CHAT, &request(3000));
    large.job().await;
    // It may be free later.
    assert_eq!(coordinator.ask(CHAT, &request(3000)).await.status, 429);
    served_by(&mut small, &coordinator, &request(1000)).await;
    let answer = coordinator.ask(CHAT, &request(9000)).await;
    assert_eq!((answer.status, answer.json()["error"]["message"].as_str().unwrap().contains("8000")), (413, true));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_waits_only_for_an_agent_that_takes_it() {
    let coordinator = Coordinator::start_with(|config| config.queue_time = Duration::from_secs(3600)).await;
    let mut small = limited(&coordinator, 1, 2000).await;
    let mut large = limited(&coordinator, 2, 8000).await;
    let runs = coordinator.asking(CHAT, &request(3000));
    let job = large.job().await.job_id;
    let waits = coordinator.asking(CHAT, &request(3000));
    coordinator.until_waiting(1).await;
    // For this one there is nothing to wait for.
    assert_eq!(coordinator.ask(CHAT, &request(9000)).await.status, 413);
    served_by(&mut small, &coordinator, &request(1000)).await;
    coordinator.until_waiting(1).await;
    large.chunk(job, DONE).await;
    large.done(job).await;
    assert_eq!(soon(runs).await.unwrap().body, DONE);
    let job = large.job().await.job_id;
    large.chunk(job, DONE).await;
    large.done(job).await;
    assert_eq!(soon(waits).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refused_request_is_not_sent_to_an_agent_that_can_not_take_it() {
    let coordinator = Coordinator::start_with(without_queue).await;
    let mut small = limited(&coordinator, 1, 2000).await;
    let mut large = limited(&coordinator, 2, 8000).await;
    let asking = coordinator.asking(CHAT, &request(3000));
    let job = large.job().await;
    large.fail(job.job_id, outpost::messages::wire::ErrorCode::OutOfCapacity).await;
    assert_eq!(soon(asking).await.unwrap().status, 429);
    small.settle().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_limit_that_makes_no_sense_or_was_not_agreed_on_is_none() {
    let coordinator = Coordinator::start().await;
    let mut agent = limited(&coordinator, 1, 0).await;
    served_by(&mut agent, &coordinator, &request(3000)).await;
    for limit in ["-1", "1e6", r#""2000""#, "null", "{}", "1023"] {
        agent
            .text(format!(
                r#"{{"type":"capabilities","models":[{{"model_id":"m","input_per_1m":1,"output_per_1m":1,
                    "max_concurrent":1,"backend":"ollama"}}],"metadata":{{"agent_version":"1"}},
                    "limits":{{"max_concurrent_total":1,"max_tokens_per_minute":null,"max_message_bytes":{limit}}}}}"#
            ))
            .await;
        agent.settle().await;
        served_by(&mut agent, &coordinator, &request(3000)).await;
    }
    let mut base = ScriptedAgent::agree(coordinator.agent_url(), 1, &[]).await;
    base.offer_up_to(&["m"], 1, 2000).await;
    served_by(&mut base, &coordinator, &request(3000)).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn operators_see_the_limit() {
    let coordinator = Coordinator::start().await;
    let _limited = limited(&coordinator, 1, 2000).await;
    let _base = ScriptedAgent::join(coordinator.agent_url(), 2, &["m"], 1).await;
    let agents = Answer::of(coordinator.get("/api/agents"), "").await.json();
    let limits: Vec<_> = agents.as_array().unwrap().iter().map(|agent| agent["max_message_bytes"].clone()).collect();
    assert_eq!(limits, [2000.into(), serde_json::Value::Null]);
}
