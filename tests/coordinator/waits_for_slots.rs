//! Requests that find all agents busy: who gets the next slot, and who waits in vain.

use std::time::Duration;

use outpost::messages::ids::JobId;
use outpost::messages::wire::{ErrorCode, FromCoordinator, JobFrame};
use outpost::testkit::{CoordinatorConfig, ScriptedAgent, TIMEOUT};

use super::fixture::{Answer, Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const DONE: &str = "data: [DONE]\n\n";

/// A request for a model, with a mark that the agent sees.
fn request(model: &str, mark: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"user":"{mark}"}}"#)
}

type Asking = actix_rt::task::JoinHandle<Answer>;

/// Asks for a model that has no free slot, and returns when the request is the last of so many that wait.
async fn waiting(coordinator: &Coordinator, model: &str, mark: &str, requests: usize) -> Asking {
    let asking = coordinator.asking(CHAT, &request(model, mark));
    coordinator.until_waiting(requests).await;
    asking
}

/// The next job of an agent, which must be that of the request with this mark.
async fn job_of(agent: &mut ScriptedAgent, mark: &str) -> JobId {
    let JobFrame { job_id, request, .. } = agent.job().await;
    let request = std::str::from_utf8(&request).unwrap();
    assert!(request.ends_with(&format!("\"{mark}\"}}")), "not {mark}: {request}");
    job_id
}

async fn finish(agent: &mut ScriptedAgent, job: JobId) {
    agent.chunk(job, DONE).await;
    agent.done(job).await;
}

async fn succeeds(asking: Asking) {
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}

fn is_busy(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &"out_of_capacity".into()));
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn requests_get_slots_that_become_free_in_the_order_of_arrival() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let mut asked = vec![coordinator.asking(CHAT, &request("m", "0"))];
    let mut job = job_of(&mut agent, "0").await;
    for number in 1..=4 {
        asked.push(waiting(&coordinator, "m", &number.to_string(), number).await);
    }
    for (number, asking) in asked.into_iter().enumerate() {
        finish(&mut agent, job).await;
        succeeds(asking).await;
        if number < 4 {
            job = job_of(&mut agent, &(number + 1).to_string()).await;
        }
    }
    agent.settle().await;
    coordinator.until_waiting(0).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancelled_job_and_a_failed_one_leave_their_slots_to_requests_that_wait() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let cancelled = coordinator.asking(CHAT, &request("m", "cancelled"));
    let job_id = job_of(&mut agent, "cancelled").await;
    let failed = waiting(&coordinator, "m", "failed", 1).await;
    let last = waiting(&coordinator, "m", "last", 2).await;
    cancelled.abort();
    // The cancel and the next job are sent by different threads.
    let next = match agent.frame().await {
        FromCoordinator::Job(job) => {
            assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
            job.job_id
        }
        frame => {
            assert_eq!(frame, FromCoordinator::JobCancel { job_id });
            job_of(&mut agent, "failed").await
        }
    };
    coordinator.until_waiting(1).await;
    agent.fail(next, ErrorCode::Internal).await;
    assert_eq!(soon(failed).await.unwrap().status, 502);
    let job = job_of(&mut agent, "last").await;
    finish(&mut agent, job).await;
    succeeds(last).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_that_leaves_the_queue_gets_no_slot() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let first = coordinator.asking(CHAT, &request("m", "first"));
    let job = job_of(&mut agent, "first").await;
    let leaves = waiting(&coordinator, "m", "leaves", 1).await;
    let stays = waiting(&coordinator, "m", "stays", 2).await;
    leaves.abort();
    coordinator.until_waiting(1).await;
    finish(&mut agent, job).await;
    succeeds(first).await;
    let job = job_of(&mut agent, "stays").await;
    finish(&mut agent, job).await;
    succeeds(stays).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_new_offer_serves_as_many_requests_as_it_has_slots_for() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 0).await;
    let first = waiting(&coordinator, "m", "first", 1).await;
    let second = waiting(&coordinator, "m", "second", 2).await;
    let third = waiting(&coordinator, "m", "third", 3).await;
    agent.send_offer(&["m"], 2, None).await;
    // Each is sent by the thread of its client.
    let jobs = [agent.job().await.job_id, agent.job().await.job_id];
    coordinator.until_waiting(1).await;
    agent.settle().await;
    for job in jobs {
        finish(&mut agent, job).await;
    }
    succeeds(first).await;
    succeeds(second).await;
    let job = job_of(&mut agent, "third").await;
    finish(&mut agent, job).await;
    succeeds(third).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_new_agent_and_a_new_model_serve_requests_that_wait() {
    let coordinator = Coordinator::start().await;
    let full = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 0).await;
    let mut other = ScriptedAgent::join(coordinator.agent_url(), 2, &["n"], 1).await;
    let first = waiting(&coordinator, "m", "first", 1).await;
    other.send_offer(&["n", "m"], 1, None).await;
    let job = job_of(&mut other, "first").await;
    let second = waiting(&coordinator, "m", "second", 1).await;
    // Also if meanwhile no agent offers the model.
    drop(full);
    other.send_offer(&[], 0, None).await;
    finish(&mut other, job).await;
    succeeds(first).await;
    let mut new = ScriptedAgent::agree(coordinator.agent_url(), 3, &[]).await;
    new.send_offer(&["m"], 1, None).await;
    let job = job_of(&mut new, "second").await;
    finish(&mut new, job).await;
    succeeds(second).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_does_not_wait_behind_those_for_other_models() {
    let coordinator = Coordinator::start().await;
    let _full = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 0).await;
    let mut other = ScriptedAgent::join(coordinator.agent_url(), 2, &["n"], 1).await;
    let _first = waiting(&coordinator, "m", "first", 1).await;
    let second = coordinator.asking(CHAT, &request("n", "second"));
    let job = job_of(&mut other, "second").await;
    let third = waiting(&coordinator, "n", "third", 2).await;
    finish(&mut other, job).await;
    succeeds(second).await;
    let job = job_of(&mut other, "third").await;
    finish(&mut other, job).await;
    succeeds(third).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_a_full_agent_refuses_waits_for_one_of_its_slots() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 2).await;
    let first = coordinator.asking(CHAT, &request("m", "first"));
    let running = job_of(&mut agent, "first").await;
    let second = coordinator.asking(CHAT, &request("m", "second"));
    let refused = job_of(&mut agent, "second").await;
    agent.fail(refused, ErrorCode::OutOfCapacity).await;
    coordinator.until_waiting(1).await;
    finish(&mut agent, running).await;
    succeeds(first).await;
    let job = job_of(&mut agent, "second").await;
    assert_ne!(job, refused);
    finish(&mut agent, job).await;
    succeeds(second).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_an_idle_agent_refuses_comes_back_a_little_later_and_at_most_twice() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 4).await;
    let asking = coordinator.asking(CHAT, &request("m", "x"));
    for _ in 0..3 {
        let job = job_of(&mut agent, "x").await;
        agent.fail(job, ErrorCode::OutOfCapacity).await;
    }
    is_busy(&soon(asking).await.unwrap());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_waits_too_long_is_told_to_come_back() {
    let short: [fn(&mut CoordinatorConfig); 2] = [
        |config| config.queue_time = Duration::from_millis(50),
        // The wait counts within the time of the job.
        |config| {
            config.queue_time = Duration::from_secs(3600);
            config.job_timeout = Duration::from_millis(50);
        },
    ];
    for change in short {
        let coordinator = Coordinator::start_with(change).await;
        let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 0).await;
        is_busy(&coordinator.ask(CHAT, &request("m", "x")).await);
        coordinator.until_waiting(0).await;
        agent.offer(&["m"], 1).await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_full_queue_takes_no_more_requests() {
    let coordinator = Coordinator::start_with(|config| config.queue_length = 2).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m", "n"], 0).await;
    let first = waiting(&coordinator, "m", "first", 1).await;
    let second = waiting(&coordinator, "n", "second", 2).await;
    for model in ["m", "n"] {
        is_busy(&coordinator.ask(CHAT, &request(model, "x")).await);
    }
    agent.send_offer(&["m", "n"], 1, None).await;
    let job = job_of(&mut agent, "first").await;
    finish(&mut agent, job).await;
    succeeds(first).await;
    let job = job_of(&mut agent, "second").await;
    finish(&mut agent, job).await;
    succeeds(second).await;
}

// Other systems have one address of loopback.
#[cfg(target_os = "linux")]
#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_that_fills_the_queue_keeps_no_other_client_from_its_turn() {
    let coordinator = Coordinator::start_with(|config| config.queue_length = 3).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 0).await;
    let first = waiting(&coordinator, "m", "first", 1).await;
    let second = waiting(&coordinator, "m", "second", 2).await;
    let third = waiting(&coordinator, "m", "third", 3).await;
    let other = coordinator.asking_from([127, 0, 0, 2].into(), CHAT, &request("m", "other"));
    is_busy(&soon(third).await.unwrap());
    is_busy(&coordinator.ask(CHAT, &request("m", "fourth")).await);
    agent.send_offer(&["m"], 1, None).await;
    for (mark, asking) in [("first", first), ("other", other), ("second", second)] {
        let job = job_of(&mut agent, mark).await;
        finish(&mut agent, job).await;
        succeeds(asking).await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stop_ends_all_waits_at_once_while_jobs_finish() {
    let coordinator = Coordinator::start_with(|config| config.stop_grace = TIMEOUT).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let runs = coordinator.asking(CHAT, &request("m", "runs"));
    let job = job_of(&mut agent, "runs").await;
    let waits = waiting(&coordinator, "m", "waits", 1).await;
    let handle = coordinator.handle().clone();
    let stopping = actix_rt::spawn(async move { handle.stop().await });
    let answer = soon(waits).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"shutting_down".into()));
    finish(&mut agent, job).await;
    succeeds(runs).await;
    agent.closed().await;
    soon(stopping).await.unwrap();
}
