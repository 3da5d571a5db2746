//! Made-up answers: what the recorded ones do not hold.

use std::sync::Arc;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::grammar::{check, events};
use super::stream::{folded, model, stream_of, translated};
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::translate::{MessageEvents, Thinking};
use crate::core::formats::usage::{BackendFault, Ending};
use crate::messages::endpoint::Endpoint;
use crate::messages::secret::Secret;
use crate::messages::wire::Tokens;

fn delta(delta: Value) -> Value {
    json!({"id": "c1", "choices": [{"index": 0, "delta": delta}]})
}

fn call(call: Value) -> Value {
    delta(json!({"tool_calls": [call]}))
}

fn stop(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn message_with(chunks: &[Value], thinking: Thinking) -> Value {
    let (out, ending) = translated(&[&stream_of(chunks)], thinking);
    check(&events(&out), &ending);
    folded(&out, Endpoint::Messages).unwrap()
}

fn message(chunks: &[Value]) -> Value {
    message_with(chunks, Thinking::Shown)
}

/// The last event of a stream that fails.
fn error(stream: &[u8]) -> Value {
    let (out, ending) = translated(&[stream], Thinking::Shown);
    let mut events = events(&out);
    check(&events, &ending);
    assert!(matches!(ending, Ending::Failed(_)), "{ending:?}");
    events.pop().unwrap().1["error"].clone()
}

#[test]
fn a_tool_call_is_a_block_whose_input_comes_in_pieces() {
    let chunks = [
        delta(json!({"role": "assistant", "content": "Let me see."})),
        call(json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"x\":"}})),
        call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "\"é\\n\"}"}})),
        stop("tool_calls"),
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}),
    ];
    let (out, ending) = translated(&[&stream_of(&chunks)], Thinking::Hidden);
    assert_eq!(ending, Ending::Complete { tokens: Tokens::new(9, 4) });
    let events: Vec<_> = events(&out).into_iter().map(|(_, data)| data).collect();
    let expected = [
        json!({"type": "message_start", "message": {"id": "c1", "type": "message", "role": "assistant", "content": [],
            "model": "smollm2-135m", "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 0, "output_tokens": 0}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me see."}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1,
            "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "{\"x\":"}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "\"é\\n\"}"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"input_tokens": 9, "output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(events, expected);
}

#[test]
fn calls_whose_pieces_interleave_are_whole_blocks_one_after_another() {
    let message = message(&[
        call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}})),
        call(json!({"index": 2, "id": "c", "function": {"name": "h", "arguments": "{\"z\""}})),
        call(json!({"index": 1, "id": "b"})),
        delta(json!({"content": "And", "reasoning": "hm"})),
        call(json!({"index": 0, "function": {"arguments": ":1}"}})),
        delta(json!({"content": " so."})),
        call(json!({"index": 2, "function": {"arguments": ":3}"}})),
        call(json!({"index": 1, "function": {"name": "g"}})),
        stop("stop"),
    ]);
    let expected = json!([
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {"z": 3}},
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "And so."},
    ]);
    assert_eq!((&message["content"], &message["stop_reason"]), (&expected, &json!("tool_use")));
}

#[test]
fn calls_without_an_index_or_an_id_get_one() {
    let numbered = message(&[
        call(json!({"id": "a", "function": {"name": "f", "arguments": "{\"x\":"}})),
        call(json!({"function": {"arguments": "1}"}})),
        call(json!({"id": "b", "function": {"name": "g", "arguments": "{}"}})),
    ]);
    let expected = json!([
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
    ]);
    assert_eq!(numbered["content"], expected);
    let named = message(&[
        call(json!({"index": 0, "id": "", "function": {"name": "f", "arguments": "{}"}})),
        call(json!({"index": 1, "function": {"name": "g"}})),
    ]);
    assert_eq!((&named["content"][0]["id"], &named["content"][1]["id"]), (&json!("toolu_c1_0"), &json!("toolu_c1_1")));
}

#[test]
fn another_id_at_an_index_that_is_taken_begins_another_call() {
    let message = message(&[
        call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}})),
        call(json!({"index": 0, "id": "a", "function": {"arguments": ":1"}})),
        call(json!({"index": 0, "id": "", "function": {"arguments": "}"}})),
        call(json!({"index": 0, "id": "b", "function": {"name": "g", "arguments": "{\"y\""}})),
        call(json!({"index": 0, "function": {"arguments": ":2}"}})),
        call(json!({"index": 1, "id": "c", "function": {"name": "h", "arguments": "{}"}})),
        call(json!({"index": 0, "id": "d", "function": {"name": "i"}})),
    ]);
    let expected = json!([
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}},
        {"type": "tool_use", "id": "d", "name": "i", "input": {}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {}},
    ]);
    assert_eq!(message["content"], expected);
}

#[test]
fn arguments_that_are_json_instead_of_a_text_are_the_input() {
    let message = message(&[
        call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": "\"é"}}})),
        call(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": {"y": [1]}}})),
    ]);
    let expected = json!([
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "\"é"}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": [1]}},
    ]);
    assert_eq!(message["content"], expected);
}

#[test]
fn arguments_that_are_not_json_are_passed_on_in_a_stream_and_are_an_empty_input_in_one_body() {
    let chunks = [call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{'x': "}})), stop("stop")];
    let (out, ending) = translated(&[&stream_of(&chunks)], Thinking::Hidden);
    assert!(matches!(ending, Ending::Complete { .. }), "{ending:?}");
    assert!(memchr::memmem::find(&out, br#""partial_json":"{'x': "}"#).is_some());
    assert_eq!(message(&chunks)["content"], json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}]));
}

#[test]
fn thinking_is_a_block_of_its_own_if_it_was_requested() {
    let chunks = [
        delta(json!({"reasoning_content": "a", "reasoning": "a", "content": null})),
        delta(json!({"reasoning": "b"})),
        delta(json!({"content": "c", "refusal": "d"})),
    ];
    let text = json!({"type": "text", "text": "cd"});
    let thinking = json!({"type": "thinking", "thinking": "ab", "signature": ""});
    assert_eq!(message(&chunks)["content"], json!([thinking, text]));
    assert_eq!(message_with(&chunks, Thinking::Hidden)["content"], json!([text]));
}

#[test]
fn an_empty_response_has_no_block() {
    let message = message(&[delta(json!({"role": "assistant", "content": ""})), stop("stop")]);
    assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &json!("end_turn")));
}

#[test]
fn the_reason_of_the_end_is_translated() {
    for (last, reason, sequence) in [
        (json!({"finish_reason": "stop"}), "end_turn", Value::Null),
        (json!({"finish_reason": "length"}), "max_tokens", Value::Null),
        (json!({"finish_reason": "content_filter"}), "refusal", Value::Null),
        (json!({"finish_reason": "tool_calls"}), "end_turn", Value::Null),
        (json!({"finish_reason": "eos_token"}), "end_turn", Value::Null),
        (json!({"finish_reason": null}), "end_turn", Value::Null),
        (json!({"finish_reason": "stop", "stop_reason": "\n\n"}), "stop_sequence", json!("\n\n")),
        (json!({"finish_reason": "stop", "matched_stop": "END"}), "stop_sequence", json!("END")),
        (json!({"finish_reason": "stop", "stop_reason": 151_643}), "end_turn", Value::Null),
    ] {
        let message = message(&[delta(json!({"content": "x"})), json!({"choices": [last]})]);
        assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!(reason), &sequence));
    }
}

#[test]
fn cached_tokens_do_not_count_as_input() {
    let usage = |usage: Value| message(&[json!({"choices": [], "usage": usage})])["usage"].clone();
    let cached = |cached: u64| json!({"prompt_tokens": 36, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": cached}});
    assert_eq!(usage(cached(35)), json!({"input_tokens": 1, "cache_read_input_tokens": 35, "output_tokens": 12}));
    assert_eq!(usage(cached(99)), json!({"input_tokens": 0, "cache_read_input_tokens": 36, "output_tokens": 12}));
    let unknown = json!({"prompt_tokens": 36, "completion_tokens": 12, "prompt_tokens_details": null});
    assert_eq!(usage(unknown), json!({"input_tokens": 36, "output_tokens": 12}));
    assert_eq!(usage(json!(null)), json!({"input_tokens": 0, "output_tokens": 0}));
}

#[test]
fn a_prompt_that_is_counted_at_the_start_is_reported_there() {
    let first = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}});
    let (out, _) = translated(&[&stream_of(&[first])], Thinking::Hidden);
    assert_eq!(events(&out)[0].1["message"]["usage"], json!({"input_tokens": 7, "output_tokens": 0}));
}

#[test]
fn text_keeps_its_spelling() {
    let chunk = br#"data: {"choices":[{"delta":{"content":"\u00e9\/\ud83d"}}]}"#;
    let (out, _) = translated(&[chunk, b"\n\n"], Thinking::Hidden);
    assert!(memchr::memmem::find(&out, br#""text":"\u00e9\/\ud83d"}"#).is_some());
}

#[test]
fn an_error_within_the_stream_is_an_error_event() {
    let text = delta(json!({"content": "x"}));
    for (event, kind) in [
        (r#"data: {"error":{"message":"m","type":"server_error","code":500}}"#, "api_error"),
        (r#"data: {"error":{"message":"m","code":"429"}}"#, "rate_limit_error"),
        (r#"data: {"object":"error","message":"m","code":400}"#, "invalid_request_error"),
        ("event: error\ndata: m", "api_error"),
    ] {
        let stream = format!("data: {text}\n\n{event}\n\ndata: {text}\n\ndata: [DONE]\n\n");
        assert_eq!(error(stream.as_bytes()), json!({"type": kind, "message": "m"}));
        assert_eq!(error(format!("{event}\n\n").as_bytes()), json!({"type": kind, "message": "m"}));
    }
}

#[test]
fn what_is_not_of_the_format_fails() {
    for event in [
        "7",
        "[]",
        "{",
        "nonsense",
        "[DONE",
        r#"{"choices":7}"#,
        r#"{"choices":[7]}"#,
        r#"{"choices":[{"index":-1}]}"#,
        r#"{"choices":[{"delta":{"content":7}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"function":7}]}}]}"#,
    ] {
        let stream = format!("data: {event}\n\n");
        let expected =
            json!({"type": "api_error", "message": "the response of the model's server is not of its format"});
        assert_eq!(error(stream.as_bytes()), expected, "{event}");
    }
    assert_eq!(error(b"data: [DONE]\n\n")["type"], "api_error");
    let nameless = stream_of(&[call(json!({"index": 0, "id": "a", "function": {"arguments": "{}"}}))]);
    assert_eq!(error(&nameless)["type"], "api_error");
}

#[test]
fn an_error_that_contains_the_key_keeps_its_text_to_itself() {
    let key = KeyTrace::of(&Secret::new("sk-CANARY")).map(Arc::new);
    for (said, expected) in [
        ("no sk-CANARY, sorry", "the model's server reported an error"),
        // A message has no control characters.
        (r"no sk-CA\u0000NA\u001bRY, sorry", "the model's server reported an error"),
        (r"no sk-CA\u000aNARY, sorry", "no sk-CA\nNARY, sorry"),
    ] {
        let mut translation = MessageEvents::new(&model(), Thinking::Shown).without_key(key.clone());
        let mut out = BytesMut::new();
        translation.feed(format!("data: {{\"error\":{{\"message\":\"{said}\"}}}}\n\n").as_bytes(), &mut out);
        assert_eq!(events(&out)[0].1["error"]["message"], expected, "{said}");
    }
}

#[test]
fn an_event_without_data_is_skipped() {
    let (out, ending) = translated(&[b"data: \n\n: ping\n\ndata:\n\n"], Thinking::Shown);
    assert_eq!((out, ending), (BytesMut::new(), Ending::Truncated));
}

#[test]
fn what_comes_after_the_end_is_ignored() {
    let mut stream = stream_of(&[delta(json!({"content": "x"}))]);
    let whole = translated(&[&stream], Thinking::Shown);
    stream.extend_from_slice(b"data: {\"error\":{}}\n\ndata: nonsense\n\n");
    assert_eq!(translated(&[&stream], Thinking::Shown), whole);
}

#[test]
fn one_json_body_becomes_the_same_events() {
    let whole = |body: &[u8]| {
        let mut translation = MessageEvents::new(&model(), Thinking::Shown);
        let mut out = BytesMut::new();
        translation.take_whole(body, &mut out);
        assert!(translation.is_over());
        let ending = translation.finish(&mut out);
        check(&events(&out), &ending);
        (out, ending)
    };
    let body = json!({"id": "c1", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": "hi", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3}});
    let (out, ending) = whole(body.to_string().as_bytes());
    assert_eq!(ending, Ending::Complete { tokens: Tokens::new(5, 3) });
    let expected =
        json!([{"type": "text", "text": "hi"}, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}]);
    assert_eq!(folded(&out, Endpoint::Messages).unwrap()["content"], expected);

    let failed = |label: Option<&str>| Ending::Failed(BackendFault { label: label.map(str::to_owned) });
    assert_eq!(whole(br#"{"error":{"type":"bad"}}"#).1, failed(Some("bad")));
    assert_eq!(whole(b"no JSON").1, failed(None));
}
