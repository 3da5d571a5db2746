//! The status of a running agent: for people, scripts, Prometheus and health checks.

use std::net::SocketAddr;

use outpost::testkit::{BackendState, ScriptedBackend, ScriptedCoordinator, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{HELLO, Home, Outpost, Setup, agent, backend, coordinator, entry, finish, request, reset, within};

async fn get(addr: SocketAddr, path: &str) -> crate::support::Response {
    request(addr, &format!("GET {path}"), "", "").await
}

struct Scene {
    coordinator: ScriptedCoordinator,
    backend: ScriptedBackend,
    process: Outpost,
    addr: SocketAddr,
    _home: Home,
}

async fn scene() -> Scene {
    let (coordinator, home) = (coordinator().await, Home::new());
    let backend = backend("llama x").await;
    let mut process = agent(&coordinator, &home, &format!("big@{}", entry(&backend))).start();
    let addr = process.status_addr().await;
    Scene { coordinator, backend, process, addr, _home: home }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_agent_is_ready_while_it_has_a_connection_and_an_offer() {
    let Scene { mut coordinator, backend: _backend, process, addr, _home, .. } = scene().await;
    let mut link = coordinator.next_connection().await;
    assert_eq!(get(addr, "/healthz").await.status, 200);
    assert_eq!(get(addr, "/readyz").await.status, 503);
    link.welcome().await;
    link.until_offered("llama x").await;
    let ready = |status| async move { while get(addr, "/readyz").await.status != status {} };
    within("readiness", ready(200)).await;
    reset(link);
    within("end of the readiness", ready(503)).await;
    assert_eq!(get(addr, "/healthz").await.status, 200);
    drop(process);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_status_counts_jobs_and_shows_the_router() {
    let Scene { mut coordinator, backend, process, addr, _home, .. } = scene().await;
    let mut link = coordinator.next_connection().await;
    let response = link.welcome().await;
    link.until_offered("llama x").await;
    let done = link.job("llama x", HELLO);
    let first = backend.request().await;
    first.head();
    finish(&first);
    link.outcome_of(done).await.done();
    let refused = link.job("no such model", HELLO);
    link.outcome_of(refused).await.error();
    link.send_text("not JSON");
    let skipped = async { while get(addr, "/status").await.json()["frames_skipped"] != 1 {} };
    within("count of the skipped frame", skipped).await;
    link.job("llama x", HELLO);
    let _running = backend.request().await;

    let status = get(addr, "/status").await;
    assert_eq!(status.status, 200);
    assert!(status.head.contains("cache-control: no-store"), "{}", status.head);
    let status = status.json();
    for (field, expected) in [
        ("/version", env!("CARGO_PKG_VERSION").into()),
        ("/pubkey", response.pubkey.into()),
        ("/provider_id", "agent-1".into()),
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
        ("/router/jobs/0/phase", "running".into()),
        ("/router/jobs/0/model", "llama x".into()),
        ("/router/waiting", 0.into()),
        ("/state/level", "good".into()),
        ("/problems/jobs refused: model not served/count", 1.into()),
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
        concat!("outpost_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "outpost_jobs_waiting 0",
        "outpost_job_duration_seconds_count{model=\"llama x\",backend=\"big\",outcome=\"done\",cause=\"none\"} 1",
        "outpost_job_first_byte_seconds_count{model=\"llama x\",backend=\"big\",outcome=\"done\",cause=\"none\"} 1",
        "outpost_job_tokens_per_second_count{model=\"llama x\",backend=\"big\",outcome=\"done\",cause=\"none\"} 1",
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "no {line}:\n{}", metrics.body);
    }
    let page = get(addr, "/").await;
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    assert_eq!(get(addr, "/nothing").await.status, 404);
    drop(process);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_status_command_asks_the_running_agent() {
    let Scene { mut coordinator, backend: _backend, process, addr, _home, .. } = scene().await;
    let _link = coordinator.serving("llama x").await;
    let offered = async { while get(addr, "/status").await.json()["models_offered"] != 1 {} };
    within("count of the models on offer", offered).await;
    let ask = |arguments: &[&str]| Setup::new(arguments).env("OUTPOST_STATUS_ADDR", addr.to_string());
    let shown = ask(&["status"]).finish().await;
    shown.assert_code(0);
    for words in ["Connected", &coordinator.addr().to_string(), "backend       big up: llama x", "0 running"] {
        assert!(shown.stdout.contains(words), "no {words:?}:\n{}", shown.stdout);
    }
    let json = ask(&["status", "--json"]).finish().await;
    json.assert_code(0);
    let mut json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let mut expected = get(addr, "/status").await.json();
    // It has times that are relative to the request.
    let routers = [&mut json, &mut expected].map(|status| status["router"].take());
    assert!(routers.iter().all(|router| router["ready"] == serde_json::json!(["big"])), "{routers:?}");
    assert_eq!(json, expected);
    drop(process);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_status_command_fails_if_no_agent_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let ended = Setup::new(&["status"]).env("OUTPOST_STATUS_ADDR", free.to_string()).finish().await;
    ended.assert_code(1);
    assert!(ended.stderr.contains(&format!("no agent answers on {free}")), "{}", ended.stderr);
    let backend = backend("m").await;
    let ended = Setup::new(&["status"]).env("OUTPOST_STATUS_ADDR", backend.addr().to_string()).finish().await;
    ended.assert_code(1);
    assert!(ended.stderr.contains("is not an outpost agent"), "{}", ended.stderr);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_configured_address_that_is_in_use_is_an_error() {
    let (coordinator, home) = (coordinator().await, Home::new());
    let taken = coordinator.addr().to_string();
    let setup = agent(&coordinator, &home, crate::support::NO_BACKEND).env("OUTPOST_STATUS_ADDR", &taken);
    let ended = setup.finish().await;
    ended.assert_code(1);
    assert!(ended.stderr.contains(&format!("can't listen on {taken} for the status page")), "{}", ended.stderr);
}

/// The status of the answer to a request with these header lines, and nothing else.
async fn status_with(addr: SocketAddr, headers: &str) -> String {
    within("answer of the status page", async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream
            .write_all(format!("GET /status HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    })
    .await
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_page_on_loopback_answers_only_requests_that_name_this_machine() {
    let Scene { addr, process, coordinator, _home, .. } = scene().await;
    let port = addr.port();
    for host in
        [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}"), "localhost".to_owned()]
    {
        assert_eq!(status_with(addr, &format!("host: {host}\r\n")).await, "200", "{host}");
    }
    for host in [format!("evil.example:{port}"), "10.0.0.1".to_owned(), String::new()] {
        assert_eq!(status_with(addr, &format!("host: {host}\r\n")).await, "403", "{host}");
    }
    drop((process, coordinator));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_page_that_is_open_to_other_hosts_answers_to_any_name() {
    let (coordinator, home) = (coordinator().await, Home::new());
    let setup = agent(&coordinator, &home, crate::support::NO_BACKEND).env("OUTPOST_STATUS_ADDR", "0.0.0.0:0");
    let mut process = setup.start();
    let addr = ([127, 0, 0, 1], process.status_addr().await.port()).into();
    assert_eq!(status_with(addr, "host: gpu-1.example:9090\r\n").await, "200");
}

/// What the page has open at once, beyond which connections wait.
#[cfg(target_os = "linux")]
#[actix_rt::test(system = "outpost::testkit::System")]
async fn connections_to_the_page_take_few_files() {
    const MOST: usize = 32;
    // Other files that may be opened meanwhile, for probes and the connection to the coordinator.
    const OTHERS: usize = 16;
    let Scene { addr, process, coordinator, _home, .. } = scene().await;
    assert_eq!(get(addr, "/healthz").await.status, 200);
    let before = process.open_files();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        connections.push(stream);
    }
    // They are accepted in order. Each that ends lets the next one in.
    let mut open = std::collections::VecDeque::new();
    for mut stream in connections {
        if open.len() == MOST - 1 {
            open.pop_front();
        }
        within("answer of the status page", stream.read_u8()).await.unwrap();
        open.push_back(stream);
        let files = process.open_files();
        assert!(files <= before + MOST + OTHERS, "{before} files, then {files}");
    }
    drop(coordinator);
}

/// Text that clears a terminal, sets its title, reorders what is read, and forges a line.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\r\n\u{7f}y";

/// Answers one request with a snapshot full of hostile text.
async fn impostor() -> (SocketAddr, Snapshot) {
    let hostile = || HOSTILE.to_owned();
    let backend = |up| BackendState {
        up,
        kind: Some(hostile()),
        models: vec![HOSTILE.into()],
        cause: Some(hostile()),
        ..BackendState::default()
    };
    let snapshot = Snapshot {
        version: hostile(),
        pubkey: hostile(),
        provider_id: Some(hostile()),
        coordinator: hostile(),
        connected_since: Some(hostile()),
        last_disconnect: Some(hostile()),
        backends: [(hostile(), backend(true)), (format!("{HOSTILE}2"), backend(false))].into(),
        ..Snapshot::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let body = serde_json::to_string(&snapshot).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    });
    (addr, snapshot)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_status_command_escapes_the_text_of_any_process_that_answers() {
    for arguments in [&["status"][..], &["status", "--json"]] {
        let (addr, snapshot) = impostor().await;
        let shown = Setup::new(arguments).env("OUTPOST_STATUS_ADDR", addr.to_string()).finish().await;
        shown.assert_code(0);
        let is_printable = |c: char| c == '\n' || !(c.is_control() || ('\u{200e}'..='\u{2069}').contains(&c));
        assert!(shown.stdout.chars().all(is_printable), "{:?}", shown.stdout);
        if arguments.contains(&"--json") {
            assert_eq!(serde_json::from_str::<Snapshot>(&shown.stdout).unwrap(), snapshot);
        } else {
            assert_eq!(shown.stdout.lines().count(), 9, "{}", shown.stdout);
        }
    }
}
