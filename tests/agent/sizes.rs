//! With the extension `sizes` the agent reports the largest frame that it takes, and its coordinator sends none above that.

use std::net::SocketAddr;

use outpost::messages::wire::{Extension, Extensions, FromCoordinator};
use outpost::testkit::{Harness, RealCoordinator, ScriptedBackend, World, job_frame, within};

use super::many_agents::count_agents;

const LIMIT: usize = 64 << 10;

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_reported_size_is_that_of_the_largest_frame_that_is_taken() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).settings(|settings| settings.max_message = LIMIT).start();
    harness.coordinator.offer([Extension::Sizes].into_iter().collect());
    for excess in [0, 1] {
        let mut link = harness.coordinator.welcome().await;
        assert_eq!(link.capabilities().await.limits.max_message_bytes, Some(LIMIT as u64));
        let mut job = job_frame("m", r#"{"x":""}"#);
        let around = serde_json::to_string(&FromCoordinator::Job(job.clone())).unwrap().len();
        job.request = format!(r#"{{"x":"{}"}}"#, "y".repeat(LIMIT + excess - around)).into();
        link.send_job(&job);
        if excess == 0 {
            link.outcome_of(job.job_id).await.done();
        } else {
            assert_eq!(link.ended().await, Some((Some(1009), String::new())));
        }
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_does_not_offer_it_is_told_no_size() {
    let mut harness = Harness::builder().start();
    for offer in [Extensions::NONE, [Extension::Endpoints].into_iter().collect()] {
        harness.coordinator.offer(offer);
        let mut link = harness.coordinator.welcome().await;
        assert_eq!(link.capabilities().await.limits.max_message_bytes, None);
    }
    harness.stop().await;
}

/// A request of so many bytes to the coordinator's API: the response's status and body.
async fn chat(addr: SocketAddr, size: usize) -> (u16, String) {
    let around = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":""}]}"#;
    let (before, after) = around.split_at(around.len() - 4);
    let body = format!("{before}{}{after}", "y".repeat(size - around.len()));
    let client = awc::Client::default();
    let request = client.post(format!("http://{addr}/v1/chat/completions")).content_type("application/json");
    let mut response = within("a response", request.send_body(body)).await.unwrap();
    let body = within("a body", response.body()).await.unwrap();
    (response.status().as_u16(), String::from_utf8_lossy(&body).into_owned())
}

/// How many agents the coordinator has an offer of.
async fn offers(addr: SocketAddr) -> usize {
    count_agents(addr, |agent| agent["models"].as_array().is_some_and(|models| !models.is_empty())).await
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_an_agent_can_not_take_goes_to_another_one_or_is_refused_and_costs_no_connection() {
    let (small, large) = (ScriptedBackend::new("small", &["m"]), ScriptedBackend::new("large", &["m", "only-large"]));
    let limited = Harness::builder().backend(&small).settings(|settings| settings.max_message = LIMIT);
    let mut world = World::builder()
        .real_coordinator(RealCoordinator::config())
        .agent(0, limited)
        .agent(0, Harness::builder().backend(&large))
        .start();
    let addr = world.real(0).addr();
    within("the offers of both agents", async { while offers(addr).await < 2 {} }).await;
    for _ in 0..3 {
        assert_eq!(chat(addr, LIMIT).await.0, 200, "with its frame it is too large for one of them");
    }
    assert_eq!((small.requests().len(), large.requests().len()), (0, 3));

    world.agents[1].drain();
    world.agents[1].exit().await;
    let (status, body) = chat(addr, LIMIT).await;
    assert_eq!((status, body.contains("request_too_large"), body.contains("65536")), (413, true, true), "{body}");
    assert_eq!(chat(addr, LIMIT / 2).await.0, 200);
    assert_eq!(small.requests().len(), 1);
    let state = world.agents[0].snapshot();
    assert_eq!((state.connections, state.failures), (1, 0));
    world.stop().await;
}
