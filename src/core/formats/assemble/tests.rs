//! Synthetic streams, for cases that are not in the recorded ones, and hostile streams.

use serde_json::{Value, json};

use super::anthropic::MessageAssembly;
use super::openai::ChatAssembly;
use super::{AssembleError, Assembly};
use crate::core::formats::sse::EVENT_LIMIT;
use crate::core::formats::usage::BackendFault;
use crate::messages::endpoint::Endpoint;

const LIMIT: usize = 1 << 20;

fn chat(events: &[Value]) -> Result<Value, AssembleError> {
    let mut chat = ChatAssembly::new(LIMIT);
    for event in events {
        chat.feed(event.to_string().as_bytes())?;
    }
    chat.finish().map(|body| serde_json::from_slice(&body).unwrap())
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta}]})
}

fn message(events: &[Value]) -> Result<Value, AssembleError> {
    let mut message = MessageAssembly::new(LIMIT);
    message.feed(br#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":3,"output_tokens":1}}}"#)?;
    for event in events {
        message.feed(event.to_string().as_bytes())?;
    }
    message.finish().map(|body| serde_json::from_slice(&body).unwrap())
}

fn start(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn block_delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(reason: &str) -> Value {
    json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}})
}

#[test]
fn tool_calls_are_joined_by_their_index() {
    let call = |index, call: Value| {
        let mut call = call;
        call["index"] = json!(index);
        delta(json!({"tool_calls": [call]}))
    };
    let chat = chat(&[
        delta(json!({"role": "assistant", "content": ""})),
        call(0, json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})),
        call(1, json!({"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}})),
        call(0, json!({"function": {"arguments": "{\"x\":"}})),
        call(0, json!({"id": "a", "function": {"name": "f", "arguments": "\"\\n\"}"}})),
    ]);
    let expected = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":\"\\n\"}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]});
    assert_eq!(chat.unwrap()["choices"][0]["message"], expected);
}

#[test]
fn tool_calls_without_an_index_begin_with_their_id() {
    let call = |call: Value| delta(json!({"tool_calls": [call]}));
    let chat = chat(&[
        call(json!({"id": "a", "function": {"name": "f", "arguments": "1"}})),
        call(json!({"function": {"arguments": "2"}})),
        call(json!({"id": "b", "function": {"name": "g", "arguments": "3"}})),
    ]);
    let calls = &chat.unwrap()["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0]["function"]["arguments"], "12");
    assert_eq!(calls[1]["function"]["name"], "g");
}

#[test]
fn whole_tool_calls_without_an_index_and_with_empty_ids_are_not_joined() {
    let call = |name: &str| json!({"id": "", "type": "function", "function": {"name": name, "arguments": "{}"}});
    for events in [
        vec![delta(json!({"tool_calls": [call("f"), call("g")]}))],
        vec![delta(json!({"tool_calls": [call("f")]})), delta(json!({"tool_calls": [call("g")]}))],
    ] {
        let calls = chat(&events).unwrap()["choices"][0]["message"]["tool_calls"].take();
        let read = |n: usize| (calls[n]["function"]["name"].clone(), calls[n]["function"]["arguments"].clone());
        assert_eq!((read(0), read(1)), ((json!("f"), json!("{}")), (json!("g"), json!("{}"))), "{calls}");
    }
}

#[test]
fn reasoning_and_refusal_are_separate_texts() {
    let chat = chat(&[
        delta(json!({"reasoning_content": "a", "reasoning": "x", "content": null})),
        delta(json!({"reasoning_content": "b", "content": "c"})),
        delta(json!({"refusal": "no", "tool_calls": null})),
    ]);
    let expected =
        json!({"role": "assistant", "content": "c", "reasoning_content": "ab", "reasoning": "x", "refusal": "no"});
    assert_eq!(chat.unwrap()["choices"][0]["message"], expected);
}

#[test]
fn logprobs_are_joined() {
    let token = |tokens: Value| json!({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": tokens}}]});
    let chat =
        chat(&[token(json!([{"token": "a"}])), token(json!([])), token(json!([{"token": "b"}, {"token": "c"}]))]);
    let expected = json!({"content": [{"token": "a"}, {"token": "b"}, {"token": "c"}]});
    assert_eq!(chat.unwrap()["choices"][0]["logprobs"], expected);
}

#[test]
fn logprobs_of_a_refusal_and_of_other_servers_are_joined_too() {
    let logprobs = |logprobs: [Value; 2]| {
        let event = |logprobs| json!({"choices": [{"index": 0, "delta": {}, "logprobs": logprobs}]});
        chat(&logprobs.map(event)).unwrap()["choices"][0]["logprobs"].take()
    };
    let refusal = |token: &str| json!({"refusal": [{"token": token}]});
    let expected = json!({"content": null, "refusal": [{"token": "a"}, {"token": "b"}]});
    assert_eq!(logprobs([refusal("a"), refusal("b")]), expected);
    let lists = |token: &str| json!({"tokens": [token], "token_logprobs": [-1]});
    assert_eq!(logprobs([lists("a"), lists("b")]), json!({"tokens": ["a", "b"], "token_logprobs": [-1, -1]}));
}

#[test]
fn a_pair_of_surrogates_cut_in_two_is_whole_again() {
    let mut chat = ChatAssembly::new(LIMIT);
    for half in [r"\ud83d", r"\ude00\n\u0000"] {
        chat.feed(format!(r#"{{"choices":[{{"delta":{{"content":"{half}"}}}}]}}"#).as_bytes()).unwrap();
    }
    let body: Value = serde_json::from_slice(&chat.finish().unwrap()).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "\u{1F600}\n\u{0}");
}

#[test]
fn choices_are_in_the_order_of_their_index() {
    let chat = chat(&[json!({"choices": [{"index": 5, "delta": {}}]}), delta(json!({})), json!({"choices": []})]);
    let indexes: Vec<_> = chat.unwrap()["choices"].as_array().unwrap().iter().map(|c| c["index"].clone()).collect();
    assert_eq!(indexes, [0, 5]);
}

#[test]
fn parts_beyond_the_bounds_are_refused() {
    let choice = |index: Value| chat(&[json!({"choices": [{"index": index}]})]).map(|_| ());
    assert_eq!(choice(json!(127)), Ok(()));
    assert_eq!(choice(json!(128)), Err(AssembleError::TooMany));
    assert_eq!(choice(json!(u64::MAX)), Err(AssembleError::TooMany));
    assert_eq!(choice(json!(-1)), Err(AssembleError::Malformed));
    assert_eq!(chat(&[json!({"choices": vec![json!({}); 129]})]), Err(AssembleError::TooMany));
    let call = |index: u64| chat(&[delta(json!({"tool_calls": [{"index": index}]}))]).map(|_| ());
    assert_eq!((call(255), call(256)), (Ok(()), Err(AssembleError::TooMany)));
    let unnumbered: Vec<_> = (0..257).map(|_| delta(json!({"tool_calls": [{"id": "x"}]}))).collect();
    assert_eq!(chat(&unnumbered[1..]).map(|_| ()), Ok(()));
    assert_eq!(chat(&unnumbered), Err(AssembleError::TooMany));
    let call = |n: u64| delta(json!({"tool_calls": [{"index": 0, "id": n.to_string()}]}));
    assert_eq!(chat(&(1..257).map(call).collect::<Vec<_>>()).map(|_| ()), Ok(()));
    assert_eq!(chat(&(0..257).map(call).collect::<Vec<_>>()), Err(AssembleError::TooMany));
    let block = |index| message(&[start(index, json!({"type": "text"}))]).map(|_| ());
    assert_eq!((block(255), block(256)), (Ok(()), Err(AssembleError::TooMany)));
}

#[test]
fn kept_bytes_are_bounded_and_replaced_ones_are_not_counted() {
    let mut chat = ChatAssembly::new(2_000);
    for n in 0..1_000 {
        chat.feed(json!({"usage": {"completion_tokens": n}}).to_string().as_bytes()).unwrap();
    }
    let text = delta(json!({"content": "x".repeat(500)})).to_string();
    let fed: Vec<_> = (0..4).map(|_| chat.feed(text.as_bytes())).collect();
    assert_eq!(fed, [Ok(()), Ok(()), Ok(()), Err(AssembleError::TooLarge)]);
    let many = json!({"choices": (0..100).map(|index| json!({"index": index})).collect::<Vec<_>>()});
    assert_eq!(ChatAssembly::new(2_000).feed(many.to_string().as_bytes()), Err(AssembleError::TooLarge));
}

#[test]
fn a_stream_of_another_format_is_refused() {
    for event in
        [r#"["a"]"#, "7", "{", r#"{"choices":7}"#, r#"{"choices":[[0]]}"#, r#"{"choices":[{"delta":{"content":7}}]}"#]
    {
        assert_eq!(ChatAssembly::new(LIMIT).feed(event.as_bytes()), Err(AssembleError::Malformed), "{event}");
    }
    let text = block_delta(0, json!({"type": "text_delta", "text": "x"}));
    assert_eq!(message(std::slice::from_ref(&text)), Err(AssembleError::Malformed));
    assert_eq!(message(&[start(0, json!({"type": "tool_use"})), text]), Err(AssembleError::Malformed));
    assert_eq!(
        message(&[start(0, json!({"type": "text"})), start(0, json!({"type": "text"}))]),
        Err(AssembleError::Malformed)
    );
    assert_eq!(ChatAssembly::new(LIMIT).finish(), Err(AssembleError::Empty));
    assert_eq!(MessageAssembly::new(LIMIT).finish(), Err(AssembleError::Empty));
}

#[test]
fn a_message_has_its_blocks_in_order_and_its_figures_merged() {
    let message = message(&[
        json!({"type": "ping"}),
        start(1, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}})),
        start(0, json!({"type": "thinking", "thinking": ""})),
        block_delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        block_delta(0, json!({"type": "signature_delta", "signature": "s"})),
        block_delta(1, json!({"type": "input_json_delta", "partial_json": "{\"x\": \"\\u00"})),
        block_delta(1, json!({"type": "input_json_delta", "partial_json": "e9\"}"})),
        start(2, json!({"type": "text", "text": "a"})),
        block_delta(2, json!({"type": "text_delta", "text": "b"})),
        block_delta(2, json!({"type": "citations_delta", "citation": {"n": 1}})),
        start(3, json!({"type": "redacted_thinking", "data": "d"})),
        start(4, json!({"type": "tool_use", "id": "u", "name": "g", "input": {}})),
        stop("tool_use"),
    ]);
    let expected = json!({"id": "m", "type": "message", "role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": "é"}},
        {"type": "text", "text": "ab", "citations": [{"n": 1}]},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "tool_use", "id": "u", "name": "g", "input": {}},
    ], "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 9}});
    assert_eq!(message.unwrap(), expected);
}

#[test]
fn a_tool_input_that_is_not_a_json_object_becomes_an_empty_one() {
    for input in ["{\"x\":", "{'x': 1}", "none", "[1]", "\"x\"", "\\"] {
        for reason in ["max_tokens", "stop_sequence", "tool_use"] {
            let half = block_delta(0, json!({"type": "input_json_delta", "partial_json": input}));
            let tool = start(0, json!({"type": "tool_use", "id": "t", "name": "f"}));
            assert_eq!(message(&[tool, half, stop(reason)]).unwrap()["content"][0]["input"], json!({}), "{input}");
        }
    }
    // Half of a pair of surrogates is not valid text either.
    let mut cut = MessageAssembly::new(LIMIT);
    for event in [
        r#"{"type":"message_start","message":{"id":"m"}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"x\":\"\ud83d"}}"#,
    ] {
        cut.feed(event.as_bytes()).unwrap();
    }
    let body: Value = serde_json::from_slice(&cut.finish().unwrap()).unwrap();
    assert_eq!(body["content"][0]["input"], json!({}));
}

#[test]
fn arguments_that_are_json_instead_of_a_string_become_the_text_of_it() {
    let whole = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": "\"é"}}}]});
    let calls = chat(&[delta(whole)]).unwrap()["choices"][0]["message"]["tool_calls"].take();
    assert_eq!(calls[0]["function"]["arguments"], json!("{\"x\":\"\\\"é\"}"));
}

#[test]
fn another_id_at_a_used_index_begins_another_call() {
    let call = |call: Value| delta(json!({"tool_calls": [call]}));
    let chat = chat(&[
        call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}})),
        call(json!({"index": 0, "id": "a", "function": {"arguments": ":1"}})),
        call(json!({"index": 0, "id": "", "function": {"arguments": "}"}})),
        call(json!({"index": 0, "id": "b", "function": {"name": "g", "arguments": "{\"y\""}})),
        call(json!({"index": 0, "function": {"arguments": ":2}"}})),
        call(json!({"index": 1, "id": "c", "function": {"name": "h", "arguments": "{}"}})),
    ]);
    let calls = &chat.unwrap()["choices"][0]["message"]["tool_calls"];
    let expected = [("a", "f", "{\"x\":1}"), ("b", "g", "{\"y\":2}"), ("c", "h", "{}")];
    let expected = expected.map(|(id, name, arguments)| {
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
    });
    assert_eq!(calls, &json!(expected));
}

#[test]
fn an_assembly_returns_the_same_error_again() {
    let mut assembly = Assembly::new(Endpoint::ChatCompletions, LIMIT);
    let failed = Err(AssembleError::Failed(BackendFault { label: Some("server_error".to_owned()) }));
    assert_eq!(assembly.feed(b"data: {\"error\":{\"type\":\"server_error\"}}\n\n"), failed);
    assert_eq!(assembly.feed(b"data: {\"choices\":[]}\n\ndata: [DONE]\n\n"), failed);
    assert_eq!(assembly.finish().map(|_| ()), failed);
}

#[test]
fn an_event_that_is_too_long_is_an_error() {
    let mut assembly = Assembly::new(Endpoint::ChatCompletions, LIMIT);
    assembly.feed(b"data: {\"choices\":[]}\n\ndata: ").unwrap();
    assert_eq!(assembly.feed(&vec![b'x'; 2 * LIMIT]), Err(AssembleError::TooLarge));
}

#[test]
fn a_response_with_a_gap_is_an_error_even_if_it_is_received_in_one_piece() {
    let event = |text: String| format!("data: {}\n\n", delta(json!({"content": text})));
    let (short, long, end) = (event("a".into()), event("b".repeat(2 * LIMIT)), "data: [DONE]\n\n");
    let stream = [short.as_str(), &long, &short, end].concat();
    for cut in [1000, LIMIT, stream.len()] {
        let mut assembly = Assembly::new(Endpoint::ChatCompletions, LIMIT);
        let fed = stream.as_bytes().chunks(cut).try_for_each(|piece| assembly.feed(piece));
        assert_eq!(fed, Err(AssembleError::TooLarge), "pieces of {cut}");
        assert_eq!(assembly.finish().map(|_| ()), Err(AssembleError::TooLarge));
    }
    let mut assembly = Assembly::new(Endpoint::ChatCompletions, LIMIT);
    assembly.feed([short.as_str(), end, &long, &short].concat().as_bytes()).unwrap();
    assert!(assembly.finish().is_ok(), "what follows the end mark may be of any length");
}

#[test]
fn a_response_in_one_event_has_the_same_bound() {
    let limit = 3 * EVENT_LIMIT;
    for (length, fits) in [(2 * EVENT_LIMIT, true), (limit - 50, true), (limit, false)] {
        let response = format!(r#"{{"id":1,"instructions":"{}"}}"#, "x".repeat(length));
        let stream = format!("data: {{\"type\":\"response.completed\",\"response\":{response}}}\n\n");
        let mut assembly = Assembly::new(Endpoint::Responses, limit);
        let fed = stream.as_bytes().chunks(60_000).try_for_each(|piece| assembly.feed(piece));
        match fed.and_then(|()| assembly.finish()) {
            Ok(whole) => assert!(fits && whole.body == response.as_bytes(), "{length}"),
            Err(error) => assert!(!fits && error == AssembleError::TooLarge, "{length}: {error}"),
        }
    }
}

#[test]
fn events_after_the_end_mark_are_ignored() {
    let mut assembly = Assembly::new(Endpoint::ChatCompletions, LIMIT);
    assembly.feed(b"data: {\"id\":1}\n\ndata: [DONE]\n\ndata: nonsense\n\n").unwrap();
    assert!(assembly.is_complete());
    assert_eq!(
        assembly.finish().unwrap_or_else(|error| panic!("{error}")).body,
        br#"{"id":1,"object":"chat.completion","choices":[]}"#
    );
}

fn assembled(endpoint: Endpoint, limit: usize, events: &[&str]) -> Result<Value, AssembleError> {
    let mut assembly = Assembly::new(endpoint, limit);
    for event in events {
        assembly.feed(format!("data: {event}\n\n").as_bytes())?;
    }
    assembly.finish().map(|whole| serde_json::from_slice(&whole.body).unwrap())
}

#[test]
fn a_text_completion_joins_its_choices_and_their_logprobs() {
    let events = [
        r#"{"id":"c","model":"m","choices":[{"index":1,"text":"b","logprobs":null},{"text":"a"}]}"#,
        r#"{"id":"d","choices":[{"index":0,"text":" x","logprobs":{"tokens":[" x"],"token_logprobs":[-1],"top_logprobs":null,"text_offset":[1]}}]}"#,
        r#"{"choices":[{"index":0,"text":" y","logprobs":{"tokens":[" y"],"token_logprobs":[-2],"text_offset":[3]},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":4}}"#,
        "[DONE]",
    ];
    let expected = json!({"id": "c", "object": "text_completion", "model": "m", "choices": [
        {"index": 0, "text": "a x y", "finish_reason": "stop",
         "logprobs": {"tokens": [" x", " y"], "token_logprobs": [-1, -2], "text_offset": [1, 3]}},
        {"index": 1, "text": "b", "finish_reason": null, "logprobs": null},
    ], "usage": {"prompt_tokens": 2, "completion_tokens": 4}});
    assert_eq!(assembled(Endpoint::Completions, LIMIT, &events), Ok(expected));
    let chat = r#"{"choices":[{"index":0,"text":{}}]}"#;
    assert_eq!(assembled(Endpoint::Completions, LIMIT, &[chat]), Err(AssembleError::Malformed));
    assert_eq!(assembled(Endpoint::Completions, LIMIT, &["[DONE]"]), Err(AssembleError::Empty));
    assert_eq!(assembled(Endpoint::Completions, 100, &events), Err(AssembleError::TooLarge));
}

#[test]
fn a_response_is_taken_from_its_last_event() {
    let last = r#"{"type":"response.incomplete","response":{"id":"r", "output":[1.0 ]}}"#;
    let created = r#"{"type":"response.created","response":{"id":"r"}}"#;
    let mut assembly = Assembly::new(Endpoint::Responses, LIMIT);
    assembly.feed(format!("data: {created}\n\ndata: {last}\n\ndata: [DONE]\n\ndata: 7\n\n").as_bytes()).unwrap();
    let Ok(whole) = assembly.finish() else { panic!("no body") };
    assert_eq!(whole.body, br#"{"id":"r", "output":[1.0 ]}"#);
    assert_eq!(assembled(Endpoint::Responses, LIMIT, &[created]), Err(AssembleError::Truncated));
    assert_eq!(assembled(Endpoint::Responses, 10, &[last]), Err(AssembleError::TooLarge));
    for bare in [r#"{"type":"response.completed"}"#, r#"{"type":"response.completed","response":[]}"#] {
        assert_eq!(assembled(Endpoint::Responses, LIMIT, &[bare]), Err(AssembleError::Malformed), "{bare}");
    }
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#;
    let fault = BackendFault { label: Some("server_error".to_owned()) };
    assert_eq!(assembled(Endpoint::Responses, LIMIT, &[failed]), Err(AssembleError::Failed(fault)));
}
