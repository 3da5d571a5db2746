//! Who gets on the coordinator's roster, how, and how they leave it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outpost::internals::{CoordinatorError, bind};
use outpost::messages::wire::{AuthOk, FromAgent, FromCoordinator, Heartbeat};
use outpost::testkit::{AgentEvent, CoordinatorConfig, ScriptedAgent, Secret, agent_key};

use super::fixture::{Answer, Coordinator, config, provider_id, soon};

const CODE: &str = "open sesame, please";

async fn is_refused(agent: &mut ScriptedAgent) {
    assert!(matches!(agent.frame().await, FromCoordinator::AuthFailed { reason: Some(_) }));
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1008, "auth failed".into()))));
}

async fn is_admitted(agent: &mut ScriptedAgent) {
    let provider_id = Some(provider_id(&agent.key));
    assert_eq!(agent.frame().await, FromCoordinator::AuthOk(AuthOk { provider_id, ..AuthOk::default() }));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_proves_its_key_is_seen_by_operators() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m", "n"], 3).await;
    agent.send(&FromAgent::Heartbeat(Heartbeat { queue_depth: 7, ..Heartbeat::default() })).await;
    agent.settle().await;
    let agents = Answer::of(coordinator.get("/api/agents"), "").await.json();
    let [seen] = &agents.as_array().unwrap()[..] else { panic!("not one agent: {agents}") };
    assert_eq!(seen["provider_id"], provider_id(&agent_key(1)));
    assert_eq!(seen["pubkey"], STANDARD.encode(agent_key(1).verifying_key().as_bytes()));
    assert_eq!(seen["agent_version"], "0.0.1");
    assert_eq!(seen["models"], serde_json::json!(["m", "n"]));
    assert_eq!((&seen["in_flight"], &seen["max_concurrent"]), (&0.into(), &3.into()));
    assert_eq!(seen["heartbeat"]["queue_depth"], 7);
    assert!(humantime::parse_rfc3339(seen["connected_since"].as_str().unwrap()).is_ok());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_can_connect_at_the_bare_url() {
    let coordinator = Coordinator::start().await;
    let (mut agent, nonce) = ScriptedAgent::dial(&format!("ws://{}/", coordinator.addr()), agent_key(1)).await;
    assert_eq!(nonce.len(), 32);
    let response = agent.response(&nonce, None);
    agent.send(&FromAgent::AuthResponse(response)).await;
    is_admitted(&mut agent).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_challenge_is_a_new_one() {
    let coordinator = Coordinator::start().await;
    let (_first, nonce) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    let (mut second, other) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    assert_ne!(nonce, other);
    let replayed = second.response(&nonce, None);
    second.send(&FromAgent::AuthResponse(replayed)).await;
    is_refused(&mut second).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_code_is_needed_once_and_must_be_right() {
    let coordinator = Coordinator::start_with(|config| config.enrollment_code = Some(Secret::new(CODE))).await;
    is_refused(&mut ScriptedAgent::answer(coordinator.agent_url(), agent_key(1), None).await).await;
    is_refused(&mut ScriptedAgent::answer(coordinator.agent_url(), agent_key(1), Some("barley")).await).await;
    is_admitted(&mut ScriptedAgent::answer(coordinator.agent_url(), agent_key(1), Some(CODE)).await).await;
    is_admitted(&mut ScriptedAgent::answer(coordinator.agent_url(), agent_key(1), None).await).await;
    is_refused(&mut ScriptedAgent::answer(coordinator.agent_url(), agent_key(2), None).await).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_listed_key_needs_no_code() {
    let coordinator = Coordinator::start_with(|config| {
        config.enrollment_code = Some(Secret::new(CODE));
        config.agent_keys = vec![agent_key(1).verifying_key().to_bytes()];
    })
    .await;
    is_admitted(&mut ScriptedAgent::answer(coordinator.agent_url(), agent_key(1), None).await).await;
    is_refused(&mut ScriptedAgent::answer(coordinator.agent_url(), agent_key(2), None).await).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn anything_but_an_answer_to_the_challenge_ends_the_handshake() {
    let coordinator = Coordinator::start().await;
    let heartbeat = serde_json::to_string(&FromAgent::Heartbeat(Heartbeat::default())).unwrap();
    for text in [heartbeat, "not json".into(), r#"{"type":"auth_response"}"#.into(), r#"{"type":"later"}"#.into()] {
        let (mut agent, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
        agent.settle().await;
        agent.text(text).await;
        assert_eq!(agent.event().await, AgentEvent::Close(Some((1002, "expected auth_response".into()))));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_page_in_a_browser_is_refused_as_an_agent() {
    let coordinator = Coordinator::start().await;
    let page = awc::Client::default().ws(coordinator.url("/agent")).origin("https://example.com");
    let refused = soon(page.connect()).await.err().unwrap();
    assert!(matches!(refused, awc::error::WsClientError::InvalidResponseStatus(status) if status == 403));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_sends_nothing_is_disconnected() {
    let coordinator = Coordinator::start_with(|config| config.handshake_timeout = Duration::from_millis(50)).await;
    let (mut agent, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    assert_eq!(agent.closed().await, Some((1008, "handshake timeout".into())));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn connections_that_have_not_proved_a_key_are_bounded_and_no_others() {
    let coordinator = Coordinator::start_with(|config| config.max_in_handshake = 2).await;
    let is_refused = async || {
        let dialled = soon(awc::Client::default().ws(coordinator.url("/agent")).connect()).await;
        matches!(dialled, Err(awc::error::WsClientError::InvalidResponseStatus(status)) if status == 503)
    };
    let (mut first, nonce) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    let (second, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(2)).await;
    assert!(is_refused().await);
    let response = first.response(&nonce, None);
    first.send(&FromAgent::AuthResponse(response)).await;
    is_admitted(&mut first).await;
    let (third, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(3)).await;
    assert!(is_refused().await);
    drop((second, third));
    // The coordinator notices some time later.
    soon(async { while is_refused().await {} }).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_falls_silent_is_dropped() {
    let coordinator = Coordinator::start_with(|config| config.agent_silence = Duration::from_secs(1)).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    assert_eq!(agent.event().await, AgentEvent::Eof);
    let agents = Answer::of(coordinator.get("/api/agents"), "").await;
    assert_eq!(agents.body, "[]");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_close_is_answered_and_the_agent_is_gone() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.close(Some(1000)).await;
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1000, String::new()))));
    assert_eq!(agent.event().await, AgentEvent::Eof);
    let health = Answer::of(coordinator.get("/healthz"), "").await;
    assert_eq!(health.body, r#"{"status":"ok","agents":0,"in_flight":0,"waiting":0}"#);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_newer_connection_of_a_key_replaces_the_older_and_its_jobs_are_lost() {
    let coordinator = Coordinator::start().await;
    let mut older = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.asking("/v1/chat/completions", r#"{"model":"m"}"#);
    let job = older.job().await.job_id;
    older.chunk(job, "data: {}\n\n").await;
    older.settle().await;
    let mut newer = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    assert_eq!(older.event().await, AgentEvent::Close(Some((1008, "replaced".into()))));
    assert_eq!(soon(asking).await.unwrap().status, 502);
    let _asking = coordinator.asking("/v1/chat/completions", r#"{"model":"m"}"#);
    newer.job().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stop_lets_jobs_end_and_closes_the_agents_connections_with_deploy() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.post("/v1/messages").send_body(r#"{"model":"m","stream":true}"#);
    let begin = async {
        let job = agent.job().await.job_id;
        agent.chunk(job, "event: a\ndata: {}\n\n").await;
        job
    };
    let (response, job) = futures_util::join!(soon(asking), begin);
    let mut response = response.unwrap();
    let handle = coordinator.handle().clone();
    let stopping = actix_rt::spawn(async move { handle.stop().await });
    agent.settle().await;
    agent.chunk(job, "event: message_stop\ndata: {}\n\n").await;
    agent.done(job).await;
    let body = soon(response.body()).await.unwrap();
    assert_eq!(&body[..], b"event: a\ndata: {}\n\nevent: message_stop\ndata: {}\n\n");
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1001, "drain:deploy".into()))));
    agent.close(None).await;
    soon(stopping).await.unwrap();
}

#[test]
fn a_configuration_that_admits_anyone_is_refused() {
    let beyond = CoordinatorConfig { listen: ([0, 0, 0, 0], 0).into(), ..config() };
    assert!(matches!(bind(beyond.clone()), Err(CoordinatorError::NeedsApiKey { .. })));
    let empty = CoordinatorConfig { api_key: Some(Secret::new("")), ..beyond.clone() };
    assert!(matches!(bind(empty), Err(CoordinatorError::EmptyApiKey)));
    let empty = CoordinatorConfig { enrollment_code: Some(Secret::new("")), ..beyond.clone() };
    assert!(matches!(bind(empty), Err(CoordinatorError::EmptyEnrollmentCode)));
    let with_key = CoordinatorConfig { api_key: Some(Secret::new("k")), ..beyond };
    assert!(matches!(bind(with_key.clone()), Err(CoordinatorError::NeedsAgents { .. })));
    let short = CoordinatorConfig { enrollment_code: Some(Secret::new("fifteen letters")), ..with_key };
    assert!(matches!(bind(short.clone()), Err(CoordinatorError::ShortEnrollmentCode)));
    let here = CoordinatorConfig { listen: ([127, 0, 0, 1], 0).into(), ..short };
    assert!(matches!(bind(here), Err(CoordinatorError::ShortEnrollmentCode)), "a proxy may stand before it");
}

#[test]
fn a_port_that_is_in_use_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = CoordinatorConfig { listen: taken.local_addr().unwrap(), ..config() };
    assert!(matches!(bind(config), Err(CoordinatorError::Bind { .. })));
}
