//! `outpost coordinator` with agents of the same binary: what a small fleet is made of.

use std::net::SocketAddr;

use outpost::testkit::ScriptedBackend;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Home, Outpost, Setup, backend, entry, finish, request, token, within};

const CODE: &str = "code-1-0123456789";
const KEY: &str = "authorization: Bearer key-1\r\n";

async fn coordinator() -> (Outpost, SocketAddr) {
    let mut process = Setup::coordinator()
        .env("OUTPOST_COORDINATOR_API_KEY", "key-1")
        .env("OUTPOST_COORDINATOR_ENROLLMENT_CODE", CODE)
        .start();
    let addr = process.coordinator_addr().await;
    (process, addr)
}

fn agent_of(coordinator: SocketAddr, home: &Home, backend: &ScriptedBackend, code: &str) -> Setup {
    Setup::new(&["run"])
        .env("OUTPOST_COORDINATOR_URL", format!("ws://{coordinator}/agent"))
        .env("OUTPOST_IDENTITY_PATH", home.key())
        .env("OUTPOST_BACKENDS", entry(backend))
        .env("OUTPOST_STATUS_ADDR", "off")
        .env("OUTPOST_ENROLLMENT_CODE", code)
}

async fn models(addr: SocketAddr) -> Vec<String> {
    let list = request(addr, "GET /v1/models", KEY, "").await.json();
    let models = list["data"].as_array().unwrap();
    models.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn two_agents_serve_their_models_through_one_coordinator() {
    let (mut coordinator, addr) = coordinator().await;
    let homes = [Home::new(), Home::new()];
    let backends = [backend("one").await, backend("two").await];
    let agents = [0, 1].map(|index| agent_of(addr, &homes[index], &backends[index], CODE).start());
    within("both models", async { while models(addr).await.len() < 2 {} }).await;
    assert_eq!(models(addr).await, ["one", "two"]);

    for (model, backend) in ["one", "two"].into_iter().zip(&backends) {
        let body = format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hello"}}]}}"#);
        let asking = tokio::spawn(async move { request(addr, "POST /v1/chat/completions", KEY, &body).await });
        let request = backend.request().await;
        assert_eq!(request.json()["messages"][0]["content"], "hello");
        request.head();
        request.piece(token(model));
        finish(&request);
        let answer = asking.await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(
            answer.body.as_bytes().starts_with(&token(model)) && answer.body.ends_with("data: [DONE]\n\n"),
            "{}",
            answer.body
        );
    }
    let ended = coordinator.event_with("first_byte_ms").await;
    assert_eq!((&ended["target"], &ended["level"]), (&json!("outpost::coordinator"), &json!("info")));
    assert_eq!((&ended["model"], &ended["outcome"]), (&json!("one"), &json!("done")));
    assert_eq!(ended["endpoint"], "/v1/chat/completions");
    assert!(["first_byte_ms", "total_ms", "input_tokens", "output_tokens"].iter().all(|name| ended[name].is_u64()));
    let enrolled = coordinator.event_with("pubkey").await;
    assert!(enrolled["provider_id"].is_string() && ended["provider_id"].is_string(), "{enrolled} {ended}");
    assert!(homes.iter().all(|home| home.provider().exists()), "both were given an id");

    let [first, second] = agents;
    first.signal(Signal::TERM);
    first.finish().await.assert_code(0);
    let draining = coordinator.event_with("in_flight").await;
    assert_eq!((&draining["message"], &draining["in_flight"]), (&json!("agent draining"), &json!(0)));
    within("end of the first agent's model", async { while models(addr).await != ["two"] {} }).await;
    coordinator.signal(Signal::TERM);
    let coordinator = coordinator.finish().await;
    coordinator.assert_code(0);
    for secret in ["hello", CODE, "key-1", "[DONE]"] {
        assert!(!coordinator.stderr.contains(secret), "{secret}: {}", coordinator.stderr);
    }
    let mut second = second;
    second.logged("extensions=binary,endpoints,sizes,drain").await;
    second.logged("disconnected generation=1").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn clients_without_the_key_and_agents_without_the_code_are_refused() {
    let (_coordinator, addr) = coordinator().await;
    assert_eq!(request(addr, "GET /v1/models", "", "").await.status, 401);
    let wrong = request(addr, "GET /v1/models", "authorization: Bearer key-2\r\n", "").await;
    assert_eq!(wrong.status, 401);
    let (home, backend) = (Home::new(), backend("m").await);
    let mut agent = agent_of(addr, &home, &backend, "code-2").start();
    agent.logged("the coordinator refuses this agent").await;
    assert!(!agent.log().contains("code-2"));
    assert_eq!(home.files(), ["identity.key"]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_reaches_it_by_a_name_that_it_does_not_know_is_refused() {
    let mut coordinator = Setup::coordinator().env("OUTPOST_COORDINATOR_HOSTS", "coordinator.test:443").start();
    let addr = coordinator.coordinator_addr().await;
    let (home, backend) = (Home::new(), backend("m").await);
    let mut agent = agent_of(addr, &home, &backend, CODE).start();
    agent.logged("the coordinator refuses this agent: the signature is not of an auth2 statement").await;
    let refused = coordinator.event_with("peer").await;
    assert_eq!(refused["message"], "agent refused");
    assert!(refused["cause"].as_str().unwrap().contains("OUTPOST_COORDINATOR_HOSTS"), "{refused}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn beyond_this_host_it_needs_a_key_and_a_code() {
    let setup = || Setup::new(&["coordinator", "--listen", "0.0.0.0:0"]).env("OUTPOST_LOG_FORMAT", "json");
    let refused = setup().finish().await;
    refused.assert_code(64);
    assert!(refused.stderr.contains("OUTPOST_COORDINATOR_API_KEY"), "{}", refused.stderr);
    let refused = setup().env("OUTPOST_COORDINATOR_API_KEY", "key-1").finish().await;
    refused.assert_code(64);
    assert!(refused.stderr.contains("OUTPOST_COORDINATOR_AGENT_KEYS"), "{}", refused.stderr);
    let allowed = setup().env("OUTPOST_COORDINATOR_API_KEY", "key-1").env("OUTPOST_COORDINATOR_ENROLLMENT_CODE", CODE);
    let addr = allowed.start().coordinator_addr().await;
    assert!(addr.ip().is_unspecified() && addr.port() != 0, "{addr}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[cfg(target_os = "linux")]
async fn it_may_open_as_many_files_as_the_system_allows() {
    let mut process = Setup::after("ulimit -Sn 100", &["coordinator", "--listen", "127.0.0.1:0"])
        .env("OUTPOST_LOG_FORMAT", "json")
        .start();
    process.event_with("addr").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid.as_raw_nonzero())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard, ..] = files.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{files}") };
    assert_eq!(soft, hard);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_address_that_is_in_use_is_an_error() {
    let (_coordinator, addr) = coordinator().await;
    let second = Setup::new(&["coordinator", "--listen", &addr.to_string()]).finish().await;
    second.assert_code(1);
    assert!(second.stderr.contains(&addr.to_string()), "{}", second.stderr);
}
