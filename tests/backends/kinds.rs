//! What a probe of each kind of server reports: models with their context and endpoints, slots and load.
//!
//! Which servers are recorded and which are written after documentation is said in `servers`.

use std::collections::BTreeMap;

use outpost::internals::auto;
use outpost::messages::endpoint::Endpoint::{self, ChatCompletions, Completions, Embeddings, Messages, Responses};
use outpost::testkit::{BackendKind, ProbeError, ProbeResult};

use super::looking::{endpoints, look, models, source};
use super::server::{Reply, Request, Server, json, recorded, status, within};
use super::servers::{self, documented, text};

const GENERATING: &[Endpoint] = &[ChatCompletions, Completions, Responses, Messages];

async fn seen(kind: BackendKind) -> ProbeResult {
    let (_, script) = servers::ONE_OF_EACH.into_iter().find(|(of, _)| *of == kind).unwrap();
    let seen = look(kind, script).await.unwrap();
    assert_eq!(seen.report.kind, kind);
    assert_eq!(seen.factory.id().as_str(), "mine");
    seen
}

fn slots_and_busy(sighting: &ProbeResult) -> (Option<u32>, Option<u32>) {
    (sighting.report.slots, sighting.report.active_requests)
}

/// What every server is asked between looks.
async fn load(kind: BackendKind, script: impl Fn(&Request) -> Reply + 'static) -> Option<u32> {
    let server = Server::start(script).await;
    within(source(&server, kind, None).load()).await
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn llamacpp() {
    let seen = seen(BackendKind::LlamaCpp).await;
    assert_eq!(models(&seen), [("smollm2-135m", Some(2048))]);
    assert_eq!(endpoints(&seen), [GENERATING], "501 is its answer to embeddings without the flag for them");
    assert_eq!(slots_and_busy(&seen), (Some(2), Some(0)));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn llamacpp_counts_the_slots_that_work() {
    let busy = |request: &Request| match request.line.as_str() {
        "GET /slots" => {
            json(r#"[{"id":0,"is_processing":true},{"id":1,"is_processing":false},{"id":2,"is_processing":true}]"#)
        }
        _ => servers::llama_server(request),
    };
    assert_eq!(load(BackendKind::LlamaCpp, busy).await, Some(2));
    let after = |_: &Request| recorded("llama-server-b11549/GET_slots_after");
    assert_eq!(load(BackendKind::LlamaCpp, after).await, Some(0));
    let off = |request: &Request| match request.line.as_str() {
        "GET /slots" => status("501 Not Implemented"),
        _ => servers::llama_server(request),
    };
    assert_eq!(look(BackendKind::LlamaCpp, off).await.unwrap().report.active_requests, None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn llamacpp_without_its_properties_still_reports_models_and_context() {
    let seen = look(BackendKind::LlamaCpp, |request| match request.line.as_str() {
        "GET /props" => recorded("llama-server-b11549/auth_GET_props_nokey"),
        _ => servers::llama_server(request),
    });
    let seen = seen.await.unwrap();
    assert_eq!(models(&seen), [("smollm2-135m", Some(2048))]);
    assert_eq!(seen.report.slots, None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn llamacpp_as_a_router_offers_what_is_loaded() {
    let list = r#"{"data":[{"id":"a","status":{"value":"loaded"}},{"id":"b","status":{"value":"unloaded"}},
        {"id":"c","status":{"value":"sleeping"}},{"id":"d","status":{"value":"failed"}}]}"#;
    let router = move |request: &Request| documented(request, &[ChatCompletions], &[("GET /v1/models", list)]);
    assert_eq!(models(&look(BackendKind::LlamaCpp, router).await.unwrap()), [("a", None), ("c", None)]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn vllm() {
    let seen = seen(BackendKind::Vllm).await;
    assert_eq!(models(&seen), [("Qwen/Qwen3-8B", Some(40960)), ("lora", None)]);
    assert_eq!(endpoints(&seen), [GENERATING, GENERATING]);
    assert_eq!(slots_and_busy(&seen), (None, Some(5)));
    assert_eq!(load(BackendKind::Vllm, servers::vllm).await, Some(5));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn vllm_with_a_model_that_embeds_has_the_routes_for_that() {
    let list = r#"{"data":[{"id":"bge","owned_by":"vllm","max_model_len":512}]}"#;
    let embedder = move |request: &Request| documented(request, &[Embeddings], &[("GET /v1/models", list)]);
    assert_eq!(endpoints(&look(BackendKind::Vllm, embedder).await.unwrap()), [[Embeddings]]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn lmstudio_offers_its_loaded_instances() {
    let seen = seen(BackendKind::LmStudio).await;
    let expected =
        [("openai/gpt-oss-20b", Some(16384)), ("openai/gpt-oss-20b:2", Some(131_072)), ("nomic", Some(2048))];
    assert_eq!(models(&seen), expected);
    let generating = vec![ChatCompletions, Completions];
    // 200 with an error is its answer to an unknown path.
    assert_eq!(endpoints(&seen), [generating.clone(), generating, vec![Embeddings]]);
    assert_eq!(slots_and_busy(&seen), (Some(6), None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_older_lmstudio_offers_its_loaded_models_and_the_oldest_what_it_lists() {
    let older = |request: &Request| match request.line.as_str() {
        "GET /api/v1/models" => servers::no_such_path(request),
        _ => servers::lm_studio(request),
    };
    let seen = look(BackendKind::LmStudio, older).await.unwrap();
    let embedder = "text-embedding-nomic-embed-text-v1.5";
    let expected = [("qwen2-vl-7b-instruct", Some(4096)), ("old-loaded", Some(8192)), (embedder, Some(2048))];
    assert_eq!(models(&seen), expected);
    assert_eq!(endpoints(&seen)[2], [Embeddings]);
    assert_eq!(seen.report.slots, None);
    let oldest = |request: &Request| match request.line.as_str() {
        "GET /api/v1/models" | "GET /api/v0/models" => servers::no_such_path(request),
        _ => servers::lm_studio(request),
    };
    assert_eq!(models(&look(BackendKind::LmStudio, oldest).await.unwrap()), [("whatever", None)]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn ollama_offers_what_generates_or_embeds_with_the_context_it_is_loaded_with() {
    let seen = seen(BackendKind::Ollama).await;
    let names = ["nomic-embed-text:latest", "of-an-old-version:7b", "embedder-of-an-old-version"];
    let expected = [("llama3.2:3b", Some(4096)), (names[0], None), (names[1], None), (names[2], None)];
    assert_eq!(models(&seen), expected);
    assert_eq!(endpoints(&seen), [GENERATING, &[Embeddings], GENERATING, &[Embeddings]]);
    assert_eq!(slots_and_busy(&seen), (None, None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn ollamas_cloud_models_are_counted_and_not_offered() {
    let list = r#"{"models":[{"name":"a"},{"name":"b","remote_model":null,"remote_host":""},
        {"name":"gpt-oss:120b-cloud","remote_model":"gpt-oss:120b","remote_host":"https://ollama.com:443"},
        {"name":"mine","remote_host":"https://ollama.com:443","capabilities":["completion"]},
        {"name":"glm-4.6:cloud","remote_model":"glm-4.6"}]}"#;
    let signed_in = move |request: &Request| match request.line.as_str() {
        "GET /api/tags" => json(list),
        _ => servers::ollama(request),
    };
    let declared = look(BackendKind::Ollama, signed_in).await.unwrap();
    let server = Server::start(signed_in).await;
    let found = within(auto::source(server.port, BTreeMap::new()).probe()).await.unwrap();
    for seen in [declared, found] {
        assert_eq!(models(&seen), [("a", None), ("b", None)]);
        assert_eq!(seen.report.cloud_models, 3);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn ollama_that_does_not_report_loaded_models_still_offers_its_models() {
    for (list, expected) in [(r#"{"models":[{"name":"a"}]}"#, vec![("a", None)]), (r#"{"models":null}"#, vec![])] {
        let silent = move |request: &Request| documented(request, &[ChatCompletions], &[("GET /api/tags", list)]);
        assert_eq!(models(&look(BackendKind::Ollama, silent).await.unwrap()), expected);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn sglang() {
    let seen = seen(BackendKind::SgLang).await;
    assert_eq!(models(&seen), [("Qwen/Qwen3-8B", Some(40960))]);
    assert_eq!(endpoints(&seen), [GENERATING], "its model generates, whatever routes the server has");
    assert_eq!(slots_and_busy(&seen), (Some(96), Some(5)));
    let metrics = |request: &Request| match request.line.as_str() {
        "GET /metrics" => {
            text("sglang:num_running_reqs{tp_rank=\"0\"} 4.0\nsglang:num_queue_reqs{tp_rank=\"0\"} 3.0\n")
        }
        _ => status("404 Not Found"),
    };
    assert_eq!(load(BackendKind::SgLang, metrics).await, Some(7));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn sglang_with_a_model_that_embeds_and_its_documents_renamed() {
    let renamed = |request: &Request| match request.line.as_str() {
        "GET /get_model_info" | "GET /get_server_info" => status("404 Not Found"),
        "GET /model_info" => json(r#"{"model_path":"bge","is_generation":false}"#),
        "GET /server_info" => json(r#"{"version":"0.6","max_running_requests":32}"#),
        _ => servers::sglang(request),
    };
    let seen = look(BackendKind::SgLang, renamed).await.unwrap();
    assert_eq!(endpoints(&seen), [[Embeddings]]);
    assert_eq!(seen.report.slots, Some(32));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn tgi() {
    let seen = seen(BackendKind::Tgi).await;
    assert_eq!(models(&seen), [("Llama-3.1-8B", Some(4096))]);
    assert_eq!(endpoints(&seen), [[ChatCompletions, Completions]]);
    assert_eq!(slots_and_busy(&seen), (Some(128), Some(7)));
    assert_eq!(load(BackendKind::Tgi, servers::tgi).await, Some(7));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn localai() {
    let seen = seen(BackendKind::LocalAi).await;
    assert_eq!(models(&seen), [("gpt-4", None)]);
    assert_eq!(endpoints(&seen), [Endpoint::ALL]);
    assert_eq!(slots_and_busy(&seen), (None, None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn koboldcpp() {
    let seen = seen(BackendKind::KoboldCpp).await;
    assert_eq!(models(&seen), [("koboldcpp/L3-8B", Some(8192))]);
    assert_eq!(endpoints(&seen), [[ChatCompletions, Completions]]);
    assert_eq!(slots_and_busy(&seen), (Some(1), Some(3)));
    assert_eq!(load(BackendKind::KoboldCpp, servers::koboldcpp).await, Some(3));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn tabbyapi_offers_what_is_loaded() {
    let seen = seen(BackendKind::TabbyApi).await;
    assert_eq!(models(&seen), [("loaded", Some(16384)), ("bge-m3", None)]);
    assert_eq!(endpoints(&seen), [vec![ChatCompletions, Completions], vec![Embeddings]]);
    assert_eq!(slots_and_busy(&seen), (Some(6), None));
    let empty = |request: &Request| match request.line.as_str() {
        "GET /v1/model" | "GET /v1/model/embedding" => status("400 Bad Request"),
        _ => servers::tabbyapi(request),
    };
    assert!(matches!(look(BackendKind::TabbyApi, empty).await.err(), Some(ProbeError::Unexpected(_))));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn mlx() {
    let seen = seen(BackendKind::Mlx).await;
    assert_eq!(models(&seen), [("mlx-community/q", None)]);
    assert_eq!(endpoints(&seen), [[ChatCompletions, Completions]]);
    assert_eq!(slots_and_busy(&seen), (None, None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn litellm() {
    let seen = seen(BackendKind::LiteLlm).await;
    assert_eq!(models(&seen), [("smollm2-135m", None)]);
    assert_eq!(endpoints(&seen), [Endpoint::ALL]);
    assert_eq!(slots_and_busy(&seen), (None, None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn litellm_that_shows_its_deployments_reports_their_tasks() {
    let documents = [
        ("GET /v1/models", r#"{"data":[{"id":"a"},{"id":"e"},{"id":"image"},{"id":"other"}]}"#),
        (
            "GET /model/info",
            r#"{"data":[{"model_name":"a","model_info":{"mode":"chat","max_input_tokens":9000}},
                {"model_name":"a","model_info":{"mode":"chat","max_input_tokens":8000}},
                {"model_name":"e","model_info":{"mode":"embedding","max_input_tokens":512}},
                {"model_name":"image","model_info":{"mode":"image_generation"}},{"model_name":"other"}]}"#,
        ),
    ];
    let shown = move |request: &Request| documented(request, &[ChatCompletions, Embeddings], &documents);
    let seen = look(BackendKind::LiteLlm, shown).await.unwrap();
    assert_eq!(models(&seen), [("a", Some(8000)), ("e", Some(512)), ("other", None)]);
    assert_eq!(endpoints(&seen), [vec![ChatCompletions], vec![Embeddings], vec![ChatCompletions, Embeddings]]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_embedder_is_offered_for_embeddings_alone() {
    let seen = look(BackendKind::OpenAi, servers::nano_e5).await.unwrap();
    assert_eq!(models(&seen), [("multilingual-e5-small-q4", None)]);
    assert_eq!(endpoints(&seen), [[Embeddings]]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_works_whatever_it_is_sent_is_offered_for_what_it_answers() {
    let seen = seen(BackendKind::OpenAi).await;
    assert_eq!(models(&seen), [("gpt-3.5-turbo", None)]);
    assert_eq!(endpoints(&seen), [[ChatCompletions]]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_context_of_an_openai_server_has_many_names() {
    let list = r#"{"data":[{"id":"a","max_model_len":1},{"id":"b","context_length":2},{"id":"c","context_window":3},
        {"id":"d","max_context_length":4},{"id":"e","meta":{"n_ctx":5}},{"id":"f","max_model_len":"6"},
        {"id":"g","meta":"7"},{"name":"no id"},8,{"id":"a","max_model_len":9}]}"#;
    let any = move |request: &Request| documented(request, &[ChatCompletions], &[("GET /v1/models", list)]);
    let seen = look(BackendKind::OpenAi, any).await.unwrap();
    let expected =
        [("a", Some(1)), ("b", Some(2)), ("c", Some(3)), ("d", Some(4)), ("e", Some(5)), ("f", None), ("g", None)];
    assert_eq!(models(&seen), expected);
}
