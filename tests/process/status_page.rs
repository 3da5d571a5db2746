//! What a running agent says of itself: to people, to scripts, to Prometheus and to a health check.

use std::net::SocketAddr;

use crate::support::{Backend, Coordinator, Home, Outpost, Setup, agent, request, within};

async fn get(addr: SocketAddr, path: &str) -> crate::support::Response {
    request(addr, &format!("GET {path}"), "", "").await
}

struct Scene {
    coordinator: Coordinator,
    backend: Backend,
    process: Outpost,
    addr: SocketAddr,
    _home: Home,
}

async fn scene() -> Scene {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let backend = Backend::start("llama \"x\"".replace('"', "").as_str()).await;
    let mut process = agent(&coordinator, &home, &format!("big@{}", backend.entry())).start();
    let addr = process.status_addr().await;
    Scene { coordinator, backend, process, addr, _home: home }
}

#[tokio::test]
async fn the_agent_is_alive_at_once_and_ready_while_jobs_can_come() {
    let Scene { coordinator, process, addr, .. } = scene().await;
    let mut session = coordinator.accept().await;
    assert_eq!(get(addr, "/healthz").await.status, 200);
    assert_eq!(get(addr, "/readyz").await.status, 503);
    session.challenge().await;
    session.send(r#"{"type":"auth_ok","provider_id":"prov-1"}"#).await;
    session.offered("llama x").await;
    let ready = |status| async move { while get(addr, "/readyz").await.status != status {} };
    within("readiness", ready(200)).await;
    session.reset();
    within("end of the readiness", ready(503)).await;
    assert_eq!(get(addr, "/healthz").await.status, 200);
    drop(process);
}

#[tokio::test]
async fn the_page_counts_what_happens() {
    let Scene { coordinator, mut backend, mut process, addr, .. } = scene().await;
    let mut session = coordinator.accept().await;
    let answer = session.challenge().await;
    session.send(r#"{"type":"auth_ok","provider_id":"prov-1"}"#).await;
    session.offered("llama x").await;
    let done = session.start_job("llama x").await;
    let mut exchange = backend.request().await;
    exchange.open_stream().await;
    exchange.finish().await;
    session.rest(done).await.1.done();
    let refused = session.start_job("no such model").await;
    session.rest(refused).await.1.failed();
    session.send("not JSON").await;
    process.logged("frame skipped").await;
    session.start_job("llama x").await;
    let _running = backend.request().await;

    let status = get(addr, "/status").await;
    assert_eq!(status.status, 200);
    assert!(status.head.contains("cache-control: no-store"), "{}", status.head);
    let status = status.json();
    for (field, expected) in [
        ("/version", env!("CARGO_PKG_VERSION").into()),
        ("/pubkey", answer["pubkey"].clone()),
        ("/provider_id", "prov-1".into()),
        ("/phase", "connected".into()),
        ("/coordinator", coordinator.addr().to_string().into()),
        ("/generation", 1.into()),
        ("/models_offered", 1.into()),
        ("/in_flight", 1.into()),
        ("/jobs/admitted", 2.into()),
        ("/jobs/done", 1.into()),
        ("/jobs/refused/model_not_loaded", 1.into()),
        ("/tokens/input", 3.into()),
        ("/tokens/output", 5.into()),
        ("/frames_skipped", 1.into()),
        ("/backends/big/up", true.into()),
        ("/backends/big/models/0", "llama x".into()),
    ] {
        assert_eq!(status.pointer(field), Some(&expected), "{field}");
    }
    let metrics = get(addr, "/metrics").await;
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    for line in [
        "outpost_up 1",
        "outpost_jobs_in_flight 1",
        "outpost_jobs_done_total 1",
        "outpost_jobs_refused_total{code=\"model_not_loaded\"} 1",
        "outpost_tokens_total{kind=\"output\"} 5",
        "outpost_backend_up{backend=\"big\"} 1",
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "no {line}:\n{}", metrics.body);
    }
    assert_eq!(get(addr, "/").await.status, 404);
}

#[tokio::test]
async fn the_status_command_asks_the_running_agent() {
    let Scene { coordinator, mut process, addr, .. } = scene().await;
    let mut session = coordinator.serving("llama x").await;
    session.settle().await;
    process.logged("capabilities sent generation=1 models=1").await;
    let ask = |arguments: &[&str]| Setup::new(arguments).env("OUTPOST_STATUS_ADDR", addr.to_string());
    let told = ask(&["status"]).finish().await;
    told.assert_code(0);
    for words in ["Connected", &coordinator.addr().to_string(), "backend       big up: llama x", "0 running"] {
        assert!(told.stdout.contains(words), "no {words:?}:\n{}", told.stdout);
    }
    let json = ask(&["status", "--json"]).finish().await;
    json.assert_code(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json, get(addr, "/status").await.json());
}

#[tokio::test]
async fn the_status_command_says_so_where_no_agent_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let ended = Setup::new(&["status"]).env("OUTPOST_STATUS_ADDR", free.to_string()).finish().await;
    ended.assert_code(1);
    assert!(ended.stderr.contains(&format!("no agent answers on {free}")), "{}", ended.stderr);
    let backend = Backend::start("m").await;
    let ended = Setup::new(&["status"]).env("OUTPOST_STATUS_ADDR", backend.addr().to_string()).finish().await;
    ended.assert_code(1);
    assert!(ended.stderr.contains("is no outpost agent"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_address_that_the_operator_named_and_another_has_is_an_error() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let taken = coordinator.addr().to_string();
    let setup = agent(&coordinator, &home, crate::support::NOBODY).env("OUTPOST_STATUS_ADDR", &taken);
    let ended = setup.finish().await;
    ended.assert_code(1);
    assert!(ended.stderr.contains(&format!("can't listen on {taken} for the status page")), "{}", ended.stderr);
}
