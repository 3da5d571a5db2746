//! What `auto` makes of whatever answers at a port of this host.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use outpost::internals::auto;
use outpost::testkit::{BackendKind, ProbeError, ProbeResult, Secret, Source};

use super::server::{Reply, Request, Server, json, recorded, response, status, within};
use super::servers::{self, Script};

fn source(port: u16) -> Box<dyn Source> {
    with_keys(port, &[])
}

fn with_keys(port: u16, keys: &[(BackendKind, &str)]) -> Box<dyn Source> {
    let keys: BTreeMap<_, _> = keys.iter().map(|(kind, key)| (*kind, Secret::new(*key))).collect();
    auto::source(port, keys)
}

async fn look(script: impl Fn(&Request) -> Reply + 'static) -> Result<ProbeResult, ProbeError> {
    let server = Server::start(script).await;
    within(source(server.port).probe()).await
}

async fn kind(script: impl Fn(&Request) -> Reply + 'static) -> Result<BackendKind, ProbeError> {
    look(script).await.map(|seen| seen.report.kind)
}

/// vLLM as documented, with a key.
fn vllm_with_key(request: &Request) -> Reply {
    match request.header("authorization") {
        Some("Bearer right") => servers::vllm(request),
        _ if request.line == "GET /version" => servers::vllm(request),
        _ => status("401 Unauthorized"),
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_kind_is_identified_by_its_routes_and_headers() {
    for (expected, script) in servers::ONE_OF_EACH.into_iter().filter(|(kind, _)| !kind.is_service()) {
        assert_eq!(kind(script).await, Ok(expected));
    }
    assert_eq!(kind(servers::nano_e5).await, Ok(BackendKind::OpenAi));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn what_is_found_is_named_by_kind_and_port() {
    let server = Server::start(servers::llama_server).await;
    let source = source(server.port);
    let seen = within(source.probe()).await.unwrap();
    assert_eq!(source.name(), format!("127.0.0.1:{}", server.port));
    assert_eq!(seen.factory.id().as_str(), format!("llamacpp-{}", server.port));
    assert_eq!(seen.report.slots, Some(2));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_imitates_ollamas_lists_is_not_identified_as_ollama() {
    let imitation = |request: &Request| match request.line.as_str() {
        "GET /" => response("200 OK", "content-type: text/html\r\n", "<title>Not Ollama</title>"),
        "GET /api/version" => json(r#"{"version":"0.7.0"}"#),
        "GET /v1/models" => json(r#"{"data":[{"id":"m","owned_by":"me"}]}"#),
        "POST /v1/chat/completions" => status("400 Bad Request"),
        _ => status("404 Not Found"),
    };
    assert_eq!(kind(imitation).await, Ok(BackendKind::OpenAi));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_shows_its_routes_and_locks_its_list_is_known_by_them() {
    for (locked, script) in [
        (BackendKind::KoboldCpp, servers::koboldcpp as Script),
        (BackendKind::TabbyApi, servers::tabbyapi),
        (BackendKind::Vllm, servers::vllm),
    ] {
        let guard = move |request: &Request| match (request.header("authorization"), request.line.as_str()) {
            (Some("Bearer right"), _)
            | (_, "GET /version" | "GET /api/extra/version" | "GET /.well-known/serviceinfo") => script(request),
            _ => status("401 Unauthorized"),
        };
        let server = Server::start(guard).await;
        assert_eq!(within(source(server.port).probe()).await.err(), Some(ProbeError::Unauthorized));
        let seen = within(with_keys(server.port, &[(locked, "right")]).probe()).await.unwrap();
        assert_eq!(seen.report.kind, locked);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_probe_of_a_port_that_accepts_and_hangs_ends_by_itself() {
    let hangs = |_: &Request| Reply::Hold(vec![]);
    let hangs_on_signs = |request: &Request| match request.line.as_str() {
        "GET /v1/models" => json(r#"{"data":[{"id":"m"}]}"#),
        _ => Reply::Hold(vec![]),
    };
    for script in [hangs as Script, hangs_on_signs] {
        let server = Server::start(script).await;
        let source = source(server.port);
        assert_eq!(within(source.probe()).await.err(), Some(ProbeError::TimedOut));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_is_too_busy_to_be_identified_keeps_its_kind() {
    let script: Rc<Cell<Script>> = Rc::new(Cell::new(servers::ollama));
    let server = Server::start({
        let script = Rc::clone(&script);
        move |request| script.get()(request)
    })
    .await;
    let source = source(server.port);
    let first = within(source.probe()).await.unwrap().factory;
    script.set(|request| match request.line.as_str() {
        "GET /v1/models" => servers::ollama(request),
        _ => Reply::Hold(vec![]),
    });
    assert_eq!(within(source.probe()).await.err(), Some(ProbeError::TimedOut));
    script.set(servers::ollama);
    assert!(Arc::ptr_eq(&first, &within(source.probe()).await.unwrap().factory));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn llamacpp_is_identified_while_it_loads_and_when_it_wants_a_key() {
    let loading = |_: &Request| recorded("llama-server-b11549/GET_v1_models_loading");
    assert_eq!(look(loading).await.err(), Some(ProbeError::NotReady));
    let locked = |_: &Request| recorded("llama-server-b11549/auth_GET_v1_models_nokey");
    assert_eq!(look(locked).await.err(), Some(ProbeError::Unauthorized));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn our_own_coordinator_is_not_a_backend() {
    let server = "server: outpost-coordinator\r\ncontent-type: application/json\r\n";
    let ours = move |_: &Request| response("200 OK", server, r#"{"data":[{"id":"m"}]}"#);
    assert_eq!(look(ours).await.err(), Some(ProbeError::Unexpected("a coordinator")));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_unknown_server_is_not_a_backend() {
    let html = |_: &Request| response("200 OK", "content-type: text/html\r\n", "<html></html>");
    assert!(matches!(look(html).await.err(), Some(ProbeError::Unexpected(_))));
    assert!(matches!(look(|_| json("{}")).await.err(), Some(ProbeError::Unexpected(_))));
    assert!(matches!(look(|_| status("403 Forbidden")).await.err(), Some(ProbeError::Unexpected(_))));
    assert_eq!(look(|_| status("401 Unauthorized")).await.err(), Some(ProbeError::Unauthorized));
    assert_eq!(look(|_| Reply::Reset).await.err(), Some(ProbeError::Unreachable));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_unknown_server_is_sent_nothing_that_could_generate() {
    let server = Server::start(|_| status("404 Not Found")).await;
    within(source(server.port).probe()).await.err().unwrap();
    assert!(server.requests().iter().all(|request| request.line.starts_with("GET ")));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_key_is_sent_to_a_server_of_its_kind_only() {
    let keys = [(BackendKind::Vllm, "right"), (BackendKind::OpenAi, "other")];
    let locked = Server::start(vllm_with_key).await;
    let seen = within(with_keys(locked.port, &keys).probe()).await.unwrap();
    assert_eq!(seen.report.kind, BackendKind::Vllm);

    let llama = Server::start(servers::llama_server).await;
    within(with_keys(llama.port, &keys).probe()).await.unwrap();
    assert!(llama.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_factory_stays_while_the_same_kind_answers_and_changes_with_it() {
    let script: Rc<Cell<Script>> = Rc::new(Cell::new(servers::llama_server));
    let server = Server::start({
        let script = Rc::clone(&script);
        move |request| script.get()(request)
    })
    .await;
    let source = source(server.port);
    let first = within(source.probe()).await.unwrap().factory;

    script.set(|_| status("503 Unavailable"));
    within(source.probe()).await.err().unwrap();
    script.set(servers::llama_server);
    let again = within(source.probe()).await.unwrap().factory;
    assert!(Arc::ptr_eq(&first, &again));

    for (other, kind) in [
        (servers::vllm as Script, BackendKind::Vllm),
        (servers::sglang, BackendKind::SgLang),
        (servers::ollama, BackendKind::Ollama),
        (servers::koboldcpp, BackendKind::KoboldCpp),
        (servers::lm_studio, BackendKind::LmStudio),
        (servers::llama_server, BackendKind::LlamaCpp),
    ] {
        script.set(other);
        let seen = within(source.probe()).await.unwrap();
        assert_eq!(seen.report.kind, kind);
        assert!(!Arc::ptr_eq(&first, &seen.factory));
        assert_eq!(seen.factory.id().as_str(), format!("{kind}-{}", server.port));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_known_kind_is_not_asked_for_the_signs_of_others() {
    let server = Server::start(servers::lm_studio).await;
    let source = source(server.port);
    within(source.probe()).await.unwrap();
    within(source.probe()).await.unwrap();
    assert_eq!(server.asked("GET /api/version"), 1);
    assert_eq!(server.asked("GET /"), 1);
}

/// The routes by which kinds are told from each other, but for the list of models.
const SIGNS: [&str; 11] = [
    "GET /",
    "GET /.well-known/serviceinfo",
    "GET /api/extra/version",
    "GET /api/v0/models",
    "GET /api/v1/models",
    "GET /api/version",
    "GET /get_model_info",
    "GET /health",
    "GET /health/liveliness",
    "GET /info",
    "GET /system",
];

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_has_the_routes_of_no_kind_is_asked_for_them_once() {
    let locked = |_: &Request| status("401 Unauthorized");
    for script in [servers::cyllama as Script, servers::nano_e5, locked] {
        let server = Server::start(script).await;
        let source = source(server.port);
        for _ in 0..3 {
            let _ = within(source.probe()).await;
        }
        for sign in SIGNS {
            assert_eq!(server.asked(sign), 1, "{sign}");
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_whose_list_changes_is_asked_for_its_routes_again() {
    let script: Rc<Cell<Script>> = Rc::new(Cell::new(servers::cyllama));
    let server = Server::start({
        let script = Rc::clone(&script);
        move |request| script.get()(request)
    })
    .await;
    let source = source(server.port);
    assert_eq!(within(source.probe()).await.unwrap().report.kind, BackendKind::OpenAi);
    for (script_now, kind) in [(servers::tgi as Script, BackendKind::Tgi), (servers::nano_e5, BackendKind::OpenAi)] {
        script.set(script_now);
        assert_eq!(within(source.probe()).await.unwrap().report.kind, kind);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_was_gone_is_identified_anew() {
    let plain = |request: &Request| match request.line.as_str() {
        "GET /info" => status("404 Not Found"),
        _ => servers::tgi(request),
    };
    let server = Server::start(plain).await;
    let (source, port) = (source(server.port), server.port);
    assert_eq!(within(source.probe()).await.unwrap().report.kind, BackendKind::OpenAi);
    drop(server);
    assert_eq!(within(source.probe()).await.err(), Some(ProbeError::Unreachable));
    // Its list is the same.
    let _server = Server::start_at(port, servers::tgi).await;
    assert_eq!(within(source.probe()).await.unwrap().report.kind, BackendKind::Tgi);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_route_that_was_not_ready_is_asked_for_again() {
    let starting = |request: &Request| match request.line.as_str() {
        "GET /info" => status("503 Unavailable"),
        _ => servers::tgi(request),
    };
    let script: Rc<Cell<Script>> = Rc::new(Cell::new(starting));
    let server = Server::start({
        let script = Rc::clone(&script);
        move |request| script.get()(request)
    })
    .await;
    let source = source(server.port);
    assert_eq!(within(source.probe()).await.unwrap().report.kind, BackendKind::OpenAi);
    script.set(servers::tgi);
    assert_eq!(within(source.probe()).await.unwrap().report.kind, BackendKind::Tgi);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_was_down_is_found_again() {
    let server = Server::start(servers::ollama).await;
    let source = source(server.port);
    let first = within(source.probe()).await.unwrap().factory;
    let port = server.port;
    drop(server);
    assert_eq!(within(source.probe()).await.err(), Some(ProbeError::Unreachable));
    let server = Server::start_at(port, servers::ollama).await;
    assert!(Arc::ptr_eq(&first, &within(source.probe()).await.unwrap().factory));
    assert_eq!(server.asked("POST /v1/messages"), 1, "what came back may have other endpoints");
}
