//! How the endpoints of a server are proved, and how long a proof holds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use outpost::internals::auto;
use outpost::messages::endpoint::Endpoint::{self, ChatCompletions, Completions, Embeddings, Responses};
use outpost::testkit::{BackendKind, ProbeError, ProbeResult};

use super::looking::{endpoints, has_messages, look, source};
use super::server::{Reply, Request, Server, json, response, status, within};
use super::servers::{self, Script, documented, llama_server};

/// What any server of OpenAI's API is taken to have.
const DOCUMENTED: [Endpoint; 4] = [ChatCompletions, Completions, Embeddings, Responses];

/// A server whose script can be changed.
async fn changing(first: Script) -> (Server, Rc<Cell<Script>>) {
    let script = Rc::new(Cell::new(first));
    let current = Rc::clone(&script);
    (Server::start(move |request| current.get()(request)).await, script)
}

/// What `auto` sees.
async fn found(script: impl Fn(&Request) -> Reply + 'static) -> Result<ProbeResult, ProbeError> {
    let server = Server::start(script).await;
    within(auto::source(server.port, BTreeMap::new()).probe()).await
}

fn asked(server: &Server) -> usize {
    server.requests().iter().filter(|request| request.line.starts_with("POST ")).count()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_endpoint_is_probed_once_while_the_server_stays_up() {
    let (server, script) = changing(llama_server).await;
    let source = source(&server, BackendKind::LlamaCpp, None);
    for _ in 0..3 {
        assert!(has_messages(&within(source.probe()).await.unwrap()));
    }
    assert_eq!(asked(&server), Endpoint::ALL.len());
    assert!(server.requests().iter().all(|request| !request.line.starts_with("POST") || request.body == b"{}"));

    script.set(|_| status("503 Unavailable"));
    within(source.probe()).await.err().unwrap();
    script.set(llama_server);
    assert!(has_messages(&within(source.probe()).await.unwrap()));
    assert_eq!(asked(&server), 2 * Endpoint::ALL.len());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_probe_that_is_dropped_leaves_the_known_endpoints_as_they_were() {
    let (server, script) = changing(llama_server).await;
    let source = source(&server, BackendKind::LlamaCpp, None);
    within(source.probe()).await.unwrap();
    script.set(|_| Reply::Hold(vec![]));
    let mut looking = source.probe();
    let asked_before = server.requests().len();
    tokio::select! {
        _ = &mut looking => panic!("there is no answer"),
        () = server.until_requests(asked_before + 1) => {}
    }
    drop(looking);
    script.set(llama_server);
    within(source.probe()).await.unwrap();
    assert_eq!(asked(&server), Endpoint::ALL.len());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn another_version_is_probed_again_and_nothing_of_the_last_one_holds() {
    let (server, script) = changing(servers::vllm).await;
    let source = source(&server, BackendKind::Vllm, None);
    assert!(has_messages(&within(source.probe()).await.unwrap()));
    script.set(|request| match request.line.as_str() {
        "GET /version" => json(r#"{"version":"0.9.0"}"#),
        "POST /v1/messages" => status("503 Unavailable"),
        _ => servers::vllm(request),
    });
    let seen = within(source.probe()).await.unwrap();
    assert!(!has_messages(&seen));
    assert!(endpoints(&seen)[0].contains(&ChatCompletions));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn other_models_are_probed_again_and_known_endpoints_hold_without_an_answer() {
    let list = |id: &str| format!(r#"{{"data":[{{"id":"{id}"}}]}}"#);
    let id = Rc::new(Cell::new("a"));
    let up = Rc::new(Cell::new("400 Bad Request"));
    let server = Server::start({
        let (id, up) = (Rc::clone(&id), Rc::clone(&up));
        move |request| match request.line.as_str() {
            "GET /v1/models" => json(&list(id.get())),
            "POST /v1/chat/completions" => status(up.get()),
            _ => status("404 Not Found"),
        }
    })
    .await;
    let source = source(&server, BackendKind::OpenAi, None);
    for (model, answer, expected) in [
        ("a", "400 Bad Request", true),
        ("b", "503 Unavailable", true),
        // It was open and is asked again, with the same models.
        ("b", "400 Bad Request", true),
        ("c", "404 Not Found", false),
        ("d", "429 Too Many Requests", false),
    ] {
        id.set(model);
        up.set(answer);
        let chats = within(source.probe()).await.is_ok_and(|seen| endpoints(&seen) == [[ChatCompletions]]);
        assert_eq!(chats, expected, "{model}");
    }
    assert_eq!(server.asked("POST /v1/chat/completions"), 5);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_does_not_answer_for_an_endpoint_is_offered_without_it_and_probed_again() {
    let silent = |request: &Request| match request.line.as_str() {
        "POST /v1/messages" => Reply::Hold(vec![]),
        _ => llama_server(request),
    };
    let server = Server::start(silent).await;
    let source = source(&server, BackendKind::LlamaCpp, None);
    for asked in 1..=2 {
        assert!(!has_messages(&within(source.probe()).await.unwrap()));
        assert_eq!(server.asked("POST /v1/messages"), asked);
        assert_eq!(server.asked("POST /v1/chat/completions"), 1);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_busy_server_is_offered_if_it_was_configured_and_not_ready_if_it_was_found() {
    for answer in ["503 Unavailable", "429 Too Many Requests"] {
        let busy = move |request: &Request| match request.line.as_str() {
            "GET /v1/models" => json(r#"{"data":[{"id":"m"}]}"#),
            line if line.starts_with("GET") => status("404 Not Found"),
            _ => status(answer),
        };
        assert_eq!(endpoints(&look(BackendKind::OpenAi, busy).await.unwrap()), [DOCUMENTED]);
        assert_eq!(found(busy).await.err(), Some(ProbeError::NotReady));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_model_without_any_endpoint_is_not_offered() {
    let none = |request: &Request| documented(request, &[], &[("GET /v1/models", r#"{"data":[{"id":"m"}]}"#)]);
    assert_eq!(look(BackendKind::OpenAi, none).await.unwrap().report.models, []);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn only_endpoints_that_a_model_could_have_are_probed() {
    let script = |request: &Request| match request.line.as_str() {
        "GET /api/tags" => json(r#"{"models":[{"name":"e","capabilities":["embedding"]}]}"#),
        _ => servers::ollama(request),
    };
    let server = Server::start(script).await;
    let seen = within(source(&server, BackendKind::Ollama, None).probe()).await.unwrap();
    assert_eq!(endpoints(&seen), [[Embeddings]]);
    assert_eq!((asked(&server), server.asked("POST /v1/embeddings")), (1, 1));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn no_server_is_sent_what_it_could_take_for_a_request() {
    for (kind, script) in servers::ONE_OF_EACH {
        let server = Server::start(script).await;
        within(source(&server, kind, None).probe()).await.unwrap();
        let broken =
            matches!(kind, BackendKind::Ollama | BackendKind::KoboldCpp | BackendKind::LocalAi | BackendKind::Mlx);
        for request in server.requests().iter().filter(|request| request.line.starts_with("POST")) {
            assert!(!kind.is_service());
            assert_eq!(request.body, if broken { b"{".as_slice() } else { b"{}" }, "{kind}");
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_unclear_success_counts_for_a_configured_server_and_not_for_a_found_one() {
    for body in ["{}", "{\"error\":\"x\"}", "hello", ""] {
        let polite = move |request: &Request| match request.line.as_str() {
            "GET /v1/models" => json(r#"{"data":[{"id":"m"}]}"#),
            line if line.starts_with("GET") => status("404 Not Found"),
            "POST /v1/responses" => servers::no_such_path(request),
            _ => json(body),
        };
        let declared = look(BackendKind::OpenAi, polite).await.unwrap();
        assert_eq!(endpoints(&declared), [[ChatCompletions, Completions, Embeddings]], "{body}");
        assert_eq!(found(polite).await.unwrap().report.models, [], "{body}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_kind_that_was_found_by_its_routes_is_treated_like_a_configured_one() {
    let polite = |request: &Request| match request.line.as_str() {
        "POST /v1/chat/completions" | "POST /v1/completions" => json("{}"),
        _ => servers::tgi(request),
    };
    let seen = found(polite).await.unwrap();
    assert_eq!((seen.report.kind, endpoints(&seen)), (BackendKind::Tgi, vec![vec![ChatCompletions, Completions]]));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_streams_whatever_it_is_sent_has_the_endpoint() {
    let streams = |request: &Request| match request.line.as_str() {
        "GET /v1/models" => json(r#"{"data":[{"id":"m"}]}"#),
        "POST /v1/chat/completions" => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n";
            Reply::Endless(head.to_vec(), b"data: {}\n\n".to_vec())
        }
        _ => status("404 Not Found"),
    };
    for seen in [look(BackendKind::OpenAi, streams).await, found(streams).await] {
        assert_eq!(endpoints(&seen.unwrap()), [[ChatCompletions]]);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn embeddings_are_not_offered_where_the_server_refuses_each_request_for_them() {
    let answers = [
        // What a real llama.cpp server says: without `--embeddings`, with it alone, and with `--pooling none`.
        ("501 Not Implemented", "This server does not support embeddings. Start it with `--embeddings`", false),
        ("400 Bad Request", r#"\"input\" or \"content\" must be provided"#, true),
        ("400 Bad Request", "Pooling type 'none' is not OAI compatible. Please use a different pooling type", false),
    ];
    for (answer, message, embeds) in answers {
        let script = move |request: &Request| match request.line.as_str() {
            "POST /v1/embeddings" => response(answer, "", &format!(r#"{{"error":{{"message":"{message}"}}}}"#)),
            _ => llama_server(request),
        };
        let seen = look(BackendKind::LlamaCpp, script).await.unwrap();
        let offered = &endpoints(&seen)[0];
        assert_eq!(offered.contains(&Embeddings), embeds, "{message}");
        assert!(offered.contains(&ChatCompletions));
    }
}
