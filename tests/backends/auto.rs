//! What `auto` makes of whatever answers at a port of this host.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use outpost::backends::{LookError, Sighting, Source, auto};
use outpost::messages::backend::BackendKind;
use outpost::messages::secret::Secret;
use outpost::transport::tls;

use super::server::{Reply, Request, Server, json, recorded, response, status, within};

type Script = fn(&Request) -> Reply;

fn source(port: u16) -> Box<dyn Source> {
    with_keys(port, &[])
}

fn with_keys(port: u16, keys: &[(BackendKind, &str)]) -> Box<dyn Source> {
    let keys: BTreeMap<_, _> = keys.iter().map(|(kind, key)| (*kind, Secret::new(*key))).collect();
    auto::source(port, keys, tls::client_config(None).unwrap())
}

async fn look(script: impl Fn(&Request) -> Reply + 'static) -> Result<Sighting, LookError> {
    let server = Server::start(script).await;
    within(source(server.port).look()).await
}

async fn kind(script: impl Fn(&Request) -> Reply + 'static) -> Result<BackendKind, LookError> {
    look(script).await.map(|seen| seen.report.kind)
}

fn llama_server(request: &Request) -> Reply {
    recorded(match request.line.as_str() {
        "GET /v1/models" => "llama-server-b11549/GET_v1_models",
        "GET /props" => "llama-server-b11549/GET_props",
        "GET /api/tags" => "llama-server-b11549/GET_api_tags",
        "GET /api/version" => "llama-server-b11549/GET_api_version",
        "POST /v1/messages" => "llama-server-b11549/messages_err_no_messages",
        _ => "llama-server-b11549/GET_unknown_path",
    })
}

/// Ollama as documented.
fn ollama(request: &Request) -> Reply {
    match request.line.as_str() {
        "GET /" => response("200 OK", "content-type: text/plain; charset=utf-8\r\n", "Ollama is running"),
        "GET /api/version" => json(r#"{"version":"0.14.0"}"#),
        "GET /api/tags" => json(r#"{"models":[{"name":"llama3.2:3b"}]}"#),
        "GET /api/ps" => json(r#"{"models":[]}"#),
        "GET /v1/models" => json(r#"{"object":"list","data":[{"id":"llama3.2:3b","owned_by":"library"}]}"#),
        "POST /v1/messages" => status("400 Bad Request"),
        _ => status("404 Not Found"),
    }
}

/// vLLM as documented.
fn vllm(request: &Request) -> Reply {
    match request.line.as_str() {
        "GET /version" => json(r#"{"version":"0.11.1"}"#),
        "GET /v1/models" => json(r#"{"data":[{"id":"m","owned_by":"vllm","max_model_len":4096}]}"#),
        _ => status("404 Not Found"),
    }
}

/// vLLM as documented, with a key.
fn vllm_with_key(request: &Request) -> Reply {
    match request.header("authorization") {
        Some("Bearer right") => vllm(request),
        _ if request.line == "GET /version" => vllm(request),
        _ => status("401 Unauthorized"),
    }
}

/// LM Studio as documented.
fn lm_studio(request: &Request) -> Reply {
    json(match request.line.as_str() {
        "GET /api/v0/models" => r#"{"data":[{"id":"m","type":"llm","state":"loaded","loaded_context_length":4096}]}"#,
        "GET /v1/models" => r#"{"data":[{"id":"m","owned_by":"organization_owner"}]}"#,
        _ => r#"{"error":"Unexpected endpoint or method. (GET /x)"}"#,
    })
}

#[actix_rt::test]
async fn every_kind_is_told_by_its_routes_and_headers() {
    assert_eq!(kind(llama_server).await, Ok(BackendKind::LlamaCpp));
    assert_eq!(kind(ollama).await, Ok(BackendKind::Ollama));
    assert_eq!(kind(vllm).await, Ok(BackendKind::Vllm));
    assert_eq!(kind(lm_studio).await, Ok(BackendKind::LmStudio));
    let litellm = |request: &Request| match request.line.as_str() {
        "GET /v1/models" => recorded("litellm-1.106.2/GET_v1_models"),
        _ => status("404 Not Found"),
    };
    assert_eq!(kind(litellm).await, Ok(BackendKind::OpenAi));
}

#[actix_rt::test]
async fn what_is_found_is_named_by_kind_and_port() {
    let server = Server::start(llama_server).await;
    let source = source(server.port);
    let seen = within(source.look()).await.unwrap();
    assert_eq!(source.name(), format!("127.0.0.1:{}", server.port));
    assert_eq!(seen.factory.id().as_str(), format!("llamacpp-{}", server.port));
    assert_eq!(seen.report.slots, Some(2));
}

#[actix_rt::test]
async fn an_imitation_of_ollamas_lists_is_no_ollama() {
    let imitation = |request: &Request| match request.line.as_str() {
        "GET /" => response("200 OK", "content-type: text/html\r\n", "<title>KoboldAI</title>"),
        "GET /api/version" => json(r#"{"version":"0.7.0"}"#),
        "GET /v1/models" => json(r#"{"data":[{"id":"koboldcpp/m","owned_by":"koboldcpp"}]}"#),
        _ => status("404 Not Found"),
    };
    assert_eq!(kind(imitation).await, Ok(BackendKind::OpenAi));
}

#[actix_rt::test]
async fn llamacpp_that_loads_or_wants_a_key_is_known_all_the_same() {
    let loading = |_: &Request| recorded("llama-server-b11549/GET_v1_models_loading");
    assert_eq!(look(loading).await.err(), Some(LookError::NotReady));
    let locked = |_: &Request| recorded("llama-server-b11549/auth_GET_v1_models_nokey");
    assert_eq!(look(locked).await.err(), Some(LookError::Unauthorized));
}

#[actix_rt::test]
async fn our_own_coordinator_is_no_backend() {
    let server = "server: outpost-coordinator\r\ncontent-type: application/json\r\n";
    let ours = move |_: &Request| response("200 OK", server, r#"{"data":[{"id":"m"}]}"#);
    assert_eq!(look(ours).await.err(), Some(LookError::Unexpected("a coordinator")));
}

#[actix_rt::test]
async fn a_stranger_is_no_backend() {
    let html = |_: &Request| response("200 OK", "content-type: text/html\r\n", "<html></html>");
    assert!(matches!(look(html).await.err(), Some(LookError::Unexpected(_))));
    assert!(matches!(look(|_| json("{}")).await.err(), Some(LookError::Unexpected(_))));
    assert!(matches!(look(|_| status("403 Forbidden")).await.err(), Some(LookError::Unexpected(_))));
    assert_eq!(look(|_| status("401 Unauthorized")).await.err(), Some(LookError::Unauthorized));
    assert_eq!(look(|_| Reply::Reset).await.err(), Some(LookError::Unreachable));
}

#[actix_rt::test]
async fn a_stranger_is_asked_nothing_that_could_generate() {
    let server = Server::start(|_| status("404 Not Found")).await;
    within(source(server.port).look()).await.err().unwrap();
    assert!(server.requests().iter().all(|request| request.line.starts_with("GET ")));
}

#[actix_rt::test]
async fn a_key_is_sent_to_a_server_of_its_kind_only() {
    let keys = [(BackendKind::Vllm, "right"), (BackendKind::OpenAi, "other")];
    let locked = Server::start(vllm_with_key).await;
    let seen = within(with_keys(locked.port, &keys).look()).await.unwrap();
    assert_eq!(seen.report.kind, BackendKind::Vllm);

    let llama = Server::start(llama_server).await;
    within(with_keys(llama.port, &keys).look()).await.unwrap();
    assert!(llama.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[actix_rt::test]
async fn the_factory_stays_while_the_same_kind_answers_and_changes_with_it() {
    let script: Rc<Cell<Script>> = Rc::new(Cell::new(llama_server));
    let server = Server::start({
        let script = Rc::clone(&script);
        move |request| script.get()(request)
    })
    .await;
    let source = source(server.port);
    let first = within(source.look()).await.unwrap().factory;

    script.set(|_| status("503 Unavailable"));
    within(source.look()).await.err().unwrap();
    script.set(llama_server);
    let again = within(source.look()).await.unwrap().factory;
    assert!(Arc::ptr_eq(&first, &again));

    for (other, kind) in [
        (vllm as Script, BackendKind::Vllm),
        (ollama, BackendKind::Ollama),
        (lm_studio, BackendKind::LmStudio),
        (llama_server, BackendKind::LlamaCpp),
    ] {
        script.set(other);
        let seen = within(source.look()).await.unwrap();
        assert_eq!(seen.report.kind, kind);
        assert!(!Arc::ptr_eq(&first, &seen.factory));
        assert_eq!(seen.factory.id().as_str(), format!("{kind}-{}", server.port));
    }
}

#[actix_rt::test]
async fn a_known_kind_is_not_asked_for_the_signs_of_others() {
    let server = Server::start(lm_studio).await;
    let source = source(server.port);
    within(source.look()).await.unwrap();
    within(source.look()).await.unwrap();
    assert_eq!(server.asked("GET /api/version"), 1);
    assert_eq!(server.asked("GET /"), 1);
}

#[actix_rt::test]
async fn a_server_that_comes_back_after_nobody_listened_is_found_again() {
    let server = Server::start(ollama).await;
    let source = source(server.port);
    let first = within(source.look()).await.unwrap().factory;
    let port = server.port;
    drop(server);
    assert_eq!(within(source.look()).await.err(), Some(LookError::Unreachable));
    let _server = Server::start_at(port, ollama).await;
    assert!(Arc::ptr_eq(&first, &within(source.look()).await.unwrap().factory));
}
