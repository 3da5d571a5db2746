//! What happens to a request when its agent refuses it, fails or is lost: it goes to another agent as long as the client can't
//! notice it.

use std::time::Duration;

use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::JobId;
use outpost::messages::wire::{ErrorCode, Extension, FromAgent, JobChunk};
use outpost::testkit::{ScriptedAgent, whole_answer};
use tokio::time::Instant;

use super::fixture::{Coordinator, soon, without_queue};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true}"#;
const WHOLE: &str = r#"{"model":"m"}"#;
const DONE: &str = "data: [DONE]\n\n";
const JSON: &str = "application/json";
const RETRIED: [ErrorCode; 5] = [
    ErrorCode::OutOfCapacity,
    ErrorCode::ModelNotLoaded,
    ErrorCode::BackendUnreachable,
    ErrorCode::AuthRejectedByBackend,
    ErrorCode::Internal,
];

/// Agents 1, 2, … that offer `m` at all paths, and whose jobs end with their connections. They are asked in this order.
async fn agents<const COUNT: usize>(coordinator: &Coordinator) -> [ScriptedAgent; COUNT] {
    let mut agents = Vec::new();
    for number in 1..=u8::try_from(COUNT).unwrap() {
        let extensions = [Extension::Binary, Extension::Endpoints];
        let mut agent = ScriptedAgent::agree(coordinator.agent_url(), number, &extensions).await;
        agent.offer_at(&["m"], 4, Some(Endpoint::ALL.into_iter().collect())).await;
        agents.push(agent);
    }
    agents.try_into().ok().unwrap()
}

async fn finishes(agent: &mut ScriptedAgent, job: JobId) {
    agent.chunk(job, DONE).await;
    agent.done(job).await;
}

/// Checks that nothing came before the answer to a ping.
async fn gets_nothing(agent: &mut ScriptedAgent) {
    agent.settle().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_its_agent_fails_goes_to_the_next_agent_under_another_id() {
    for code in RETRIED {
        let coordinator = Coordinator::start().await;
        let [mut first, mut second] = agents(&coordinator).await;
        let asking = coordinator.asking(CHAT, STREAM);
        let failed = first.job().await;
        first.fail(failed.job_id, code).await;
        let taken = second.job().await;
        assert_ne!(failed.job_id, taken.job_id);
        assert_eq!(failed.request, taken.request);
        finishes(&mut second, taken.job_id).await;
        assert_eq!(soon(asking).await.unwrap().body, DONE, "{code}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_is_lost_before_its_first_byte_goes_to_the_next_agent() {
    let coordinator = Coordinator::start().await;
    let [mut first, mut second] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let lost = first.job().await.job_id;
    drop(first);
    let taken = second.job().await.job_id;
    assert_ne!(lost, taken);
    finishes(&mut second, taken).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_whose_frames_or_type_can_not_be_read_goes_to_the_next_agent() {
    let coordinator = Coordinator::start().await;
    let [mut first, mut second, mut third] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    first.send(&FromAgent::JobChunk(JobChunk::new(job, "not base64".into()))).await;
    let job = second.job().await.job_id;
    second.begin(job, 200, "text/html", "<html>").await;
    let job = third.job().await.job_id;
    finishes(&mut third, job).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_is_sent_to_three_agents_at_most_and_the_last_failure_is_the_response() {
    let coordinator = Coordinator::start().await;
    let [mut first, mut second, mut third, mut spared] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    first.fail(job, ErrorCode::OutOfCapacity).await;
    second.job().await;
    drop(second);
    let job = third.job().await.job_id;
    third.fail(job, ErrorCode::ModelNotLoaded).await;
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &"model_not_found".into()));
    gets_nothing(&mut spared).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_has_failed_a_request_does_not_get_it_again() {
    let coordinator = Coordinator::start().await;
    let [mut first, mut second] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    first.fail(job, ErrorCode::Internal).await;
    let job = second.job().await.job_id;
    second.fail(job, ErrorCode::BackendUnreachable).await;
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_error".into()));
    gets_nothing(&mut first).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_deadline_that_has_passed_is_not_retried() {
    let coordinator = Coordinator::start().await;
    let [mut first, mut second] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    first.fail(job, ErrorCode::BackendTimeout).await;
    assert_eq!(soon(asking).await.unwrap().status, 504);
    gets_nothing(&mut second).await;

    // Nor is any other failure after the deadline, within the time that the agent has to report it.
    let coordinator = Coordinator::start_with(|config| config.job_timeout = Duration::from_millis(1)).await;
    let [mut first, mut second] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await;
    let deadline = Instant::now() + job.deadline;
    while Instant::now() < deadline {
        first.settle().await;
    }
    first.fail(job.job_id, ErrorCode::Internal).await;
    assert_eq!(soon(asking).await.unwrap().status, 502);
    gets_nothing(&mut second).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_status_that_blames_the_request_is_not_retried_and_others_are() {
    let coordinator = Coordinator::start().await;
    for (status, code, is_retried) in [
        (400, ErrorCode::Internal, false),
        (422, ErrorCode::Internal, false),
        (404, ErrorCode::ModelNotLoaded, true),
        (429, ErrorCode::Internal, true),
        (401, ErrorCode::AuthRejectedByBackend, true),
        (500, ErrorCode::Internal, true),
    ] {
        let [mut first, mut second] = agents(&coordinator).await;
        let asking = coordinator.asking(CHAT, STREAM);
        let job = first.job().await.job_id;
        first.begin(job, status, JSON, r#"{"error":{"message":"because"}}"#).await;
        first.fail(job, code).await;
        if is_retried {
            let job = second.job().await.job_id;
            finishes(&mut second, job).await;
        }
        let answer = soon(asking).await.unwrap();
        assert_eq!(answer.status, if is_retried { 200 } else { status }, "{status}");
        gets_nothing(&mut second).await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_that_is_not_streamed_is_retried_until_it_is_whole() {
    let coordinator = Coordinator::start().await;
    let [mut first, mut second, mut third] = agents(&coordinator).await;
    let body = String::from_utf8(whole_answer(Endpoint::ChatCompletions, "hello", 3, 5).to_vec()).unwrap();
    let asking = coordinator.asking(CHAT, WHOLE);
    let job = first.job().await.job_id;
    first.begin(job, 200, JSON, &body[..20]).await;
    first.settle().await;
    drop(first);
    let job = second.job().await.job_id;
    second.begin(job, 200, "text/event-stream", "data: {}\n\n").await;
    second.done(job).await;
    let job = third.job().await.job_id;
    third.begin(job, 200, JSON, &body).await;
    third.done(job).await;
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, answer.body), (200, body));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stream_that_has_begun_is_not_retried() {
    let coordinator = Coordinator::start().await;
    let [mut first, mut second] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    first.chunk(job, "data: 1\n\n").await;
    first.settle().await;
    drop(first);
    let answer = soon(asking).await.unwrap();
    assert_eq!(answer.status, 200);
    let event = answer.body.strip_prefix("data: 1\n\ndata: ").unwrap();
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["error"]["code"], "upstream_error");
    gets_nothing(&mut second).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_another_agent_the_failure_is_the_response() {
    let coordinator = Coordinator::start().await;
    let [mut agent] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    agent.job().await;
    drop(agent);
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_error".into()));
    assert_eq!(coordinator.ask(CHAT, STREAM).await.status, 404);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_a_queue_a_failure_with_all_other_agents_full_is_a_lack_of_capacity() {
    let coordinator = Coordinator::start_with(without_queue).await;
    let [mut first, mut second] = agents(&coordinator).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    second.offer_at(&["m"], 0, None).await;
    first.fail(job, ErrorCode::Internal).await;
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &"out_of_capacity".into()));
}
