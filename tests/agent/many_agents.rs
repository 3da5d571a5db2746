//! Several agents in one test: they share a coordinator's jobs, and do not disturb each other.

use std::net::SocketAddr;
use std::time::Duration;

use outpost::messages::wire::ErrorCode;
use outpost::testkit::{
    CoordinatorConfig, DialFault, Exit, Harness, LinkFault, RealCoordinator, Reply, Request, ScriptedBackend, World,
    answer, within,
};

/// A backend that offers `m` and answers by hand.
fn backend(name: &str) -> ScriptedBackend {
    let backend = ScriptedBackend::new(name, &["m"]);
    backend.reply_always(Reply::ByHand);
    backend
}

/// A request to the coordinator's API: its response's status and body.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
fn chat(addr: SocketAddr) -> actix_rt::task::JoinHandle<(u16, String)> {
    let client = awc::Client::builder().timeout(Duration::from_secs(60)).finish();
    let request = client.post(format!("http://{addr}/v1/chat/completions")).content_type("application/json");
    actix_rt::spawn(async move {
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
        let mut response = request.send_body(body).await.expect("a response");
        let body = response.body().await.expect("a body");
        (response.status().as_u16(), String::from_utf8_lossy(&body).into_owned())
    })
}

/// Waits until the coordinator has read the offer of an agent.
async fn until_listed(addr: SocketAddr) {
    let client = awc::Client::default();
    let listed = async {
        loop {
            let mut models = client.get(format!("http://{addr}/v1/models")).send().await.expect("a response");
            if models.body().await.expect("a body").windows(6).any(|text| text == b"\"id\":\"") {
                return;
            }
        }
    };
    within("a model", listed).await;
}

/// How many of the coordinator's agents are such.
pub(super) async fn count_agents(addr: SocketAddr, wanted: impl Fn(&serde_json::Value) -> bool) -> usize {
    let mut response =
        awc::Client::default().get(format!("http://{addr}/api/agents")).send().await.expect("a response");
    let agents: Vec<serde_json::Value> = response.json().await.expect("a list");
    agents.iter().filter(|agent| wanted(agent)).count()
}

/// How many agents the coordinator knows to drain.
async fn draining(addr: SocketAddr) -> usize {
    count_agents(addr, |agent| agent["draining"] == true).await
}

/// Answers a request with a complete stream that contains `text`.
fn complete(request: &Request, text: &str) {
    request.head();
    for event in answer(request.endpoint, text, 3, 5) {
        request.piece(event);
    }
    request.end();
}

/// Two agents of one real coordinator, each with one of these backends. Both have sent their offers.
async fn two_agents(config: CoordinatorConfig, left: &ScriptedBackend, right: &ScriptedBackend) -> World {
    let mut world = World::builder()
        .real_coordinator(config)
        .agent(0, Harness::builder().backend(left))
        .agent(0, Harness::builder().backend(right))
        .start();
    for agent in &mut world.agents {
        agent.until(|state| state.models_offered == 1).await;
    }
    world
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_survives_resets_of_the_agents_connection_and_the_backend_sees_one_request() {
    let box_ = backend("box");
    let mut world = World::builder()
        .real_coordinator(RealCoordinator::config())
        .agent(0, Harness::builder().backend(&box_))
        .start();
    let addr = world.real(0).addr();
    world.agents[0].until(|state| state.models_offered == 1).await;
    until_listed(addr).await;
    let response = chat(addr);
    let mut request = box_.request().await;
    request.head();
    let event = |n| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n} \"}}}}]}}\n\n");
    let pieces: Vec<String> = (0..120).map(event).chain(["data: [DONE]\n\n".to_owned()]).collect();
    let whole = pieces.concat();
    for (n, piece) in pieces.into_iter().enumerate() {
        request.piece(piece);
        request.taken(n + 1).await;
        if n % 50 == 20 {
            world.reset_connection(0);
            let resets = n as u64 / 50 + 1;
            world.agents[0].until(|state| state.resumptions == resets).await;
        }
    }
    request.end();
    let (status, body) = within("a response", response).await.unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(body, whole);
    assert_eq!(box_.requests().len(), 1);
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn two_agents_share_the_jobs_of_one_coordinator_and_one_takes_over_when_the_other_is_lost() {
    let (left, right) = (backend("left"), backend("right"));
    let mut config = RealCoordinator::config();
    config.resume_window = Duration::from_secs(1);
    let world = two_agents(config, &left, &right).await;
    let addr = world.real(0).addr();
    // The coordinator reads an agent's offer before its answer to a later ping: both are known when two jobs run at once.
    let first = chat(addr);
    let on_first = tokio::select! {
        request = left.request() => (&left, request),
        request = right.request() => (&right, request),
    };
    let (other, lost) = if std::ptr::eq(on_first.0, &left) { (&right, 0) } else { (&left, 1) };
    let second = chat(addr);
    let on_second = other.request().await;

    world.cut_off(lost);
    let moved = other.request().await;
    // The agent that is cut off works on until the coordinator keeps its session no longer.
    let mut abandoned = on_first.1;
    abandoned.dropped().await;
    complete(&moved, "moved");
    complete(&on_second, "stayed");
    for (response, text) in [(first, "moved"), (second, "stayed")] {
        let (status, body) = within("a response", response).await.unwrap();
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(text), "{body}");
    }
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_loses_its_coordinator_does_not_disturb_the_agent_of_another_one() {
    let (left, right) = (backend("left"), backend("right"));
    let mut world = World::builder()
        .scripted_coordinators(2)
        .agent(0, Harness::builder().backend(&left))
        .agent(1, Harness::builder().backend(&right))
        .start();
    let mut to_left = world.scripted(0).serving("m").await;
    let mut to_right = world.scripted(1).serving("m").await;
    let (lost, kept) = (to_left.job("m", "{}"), to_right.job("m", "{}"));
    let (mut on_left, on_right) = (left.request().await, right.request().await);

    world.scripted(0).fail_dials([DialFault::Refused, DialFault::Refused]);
    to_left.fail(LinkFault::HangUp);
    on_left.dropped().await;
    complete(&on_right, "hello");
    to_right.outcome_of(kept).await.done();

    // The agent that lost its connection is back after two more dials, without the lost job.
    let mut again = world.scripted(0).serving("m").await;
    assert_eq!((world.scripted(0).dials().len(), world.scripted(1).dials().len()), (4, 1));
    again.silence(lost);
    again.fence().await;
    assert_eq!(world.agents[0].snapshot().jobs.cancelled, 1);
    assert_eq!(world.agents[1].snapshot().jobs.done, 1);
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn three_agents_of_one_scripted_coordinator_have_jobs_of_their_own() {
    let backends = ["a", "b", "c"].map(|model| ScriptedBackend::new(model, &[model]));
    let mut builder = World::builder().scripted_coordinators(1);
    for backend in &backends {
        builder = builder.agent(0, Harness::builder().backend(backend));
    }
    let mut world = builder.start();
    for _ in &backends {
        let mut link = world.scripted(0).welcome().await;
        let models = link.offered().await;
        let [model] = &models[..] else { panic!("{models:?}") };
        let job = link.job(model, "{}");
        link.outcome_of(job).await.done();
        let others = ["a", "b", "c"].into_iter().filter(|other| other != model);
        for other in others {
            let job = link.job(other, "{}");
            assert_eq!(link.outcome_of(job).await.code(), ErrorCode::ModelNotLoaded);
        }
    }
    assert!(backends.iter().all(|backend| backend.requests().len() == 1));
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_coordinator_gives_an_agent_that_drains_no_new_job_and_waits_for_its_running_ones() {
    let (left, right) = (backend("left"), backend("right"));
    let mut world = two_agents(RealCoordinator::config(), &left, &right).await;
    let addr = world.real(0).addr();
    let first = chat(addr);
    let on_first = tokio::select! {
        request = left.request() => (0, request),
        request = right.request() => (1, request),
    };
    let (drains, stays) = (on_first.0, if on_first.0 == 0 { &right } else { &left });
    world.agents[drains].drain();
    within("the announcement", async { while draining(addr).await == 0 {} }).await;
    for _ in 0..3 {
        let next = chat(addr);
        complete(&stays.request().await, "stayed");
        assert_eq!(within("a response", next).await.unwrap().0, 200);
    }
    let stayed = 1 - drains;
    world.agents[stayed].drain();
    assert_eq!(world.agents[stayed].exit().await, Exit::Drained);
    let (status, body) = within("a response", chat(addr)).await.unwrap();
    assert_eq!((status, body.contains("model_unavailable")), (503, true), "{body}");
    complete(&on_first.1, "finished");
    let (status, body) = within("a response", first).await.unwrap();
    assert_eq!((status, body.contains("finished")), (200, true), "{body}");
    assert_eq!(world.agents[drains].exit().await, Exit::Drained);
    world.stop().await;
}
