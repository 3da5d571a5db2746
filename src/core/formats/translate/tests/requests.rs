//! Pairs of requests: for Anthropic's messages, and for chat completions.

use bytes::Bytes;
use serde_json::{Value, json};

use super::stream::model;
use crate::core::formats::translate::{Thinking, chat_request};

fn translate(request: &Value) -> (Value, Vec<&'static str>, Thinking) {
    let translated = chat_request(&Bytes::from(request.to_string()), &model()).unwrap();
    (serde_json::from_slice(&translated.body.concat()).unwrap(), translated.dropped, translated.thinking)
}

/// The messages that a list of messages becomes.
fn messages(messages: Value) -> Value {
    translate(&json!({"messages": messages})).0["messages"].clone()
}

/// The messages that one message of a user becomes.
fn of_user(content: Value) -> Value {
    messages(json!([{"role": "user", "content": content}]))
}

/// A request with these members, and the members that it becomes beside those that every request has.
fn members(members: Value) -> Value {
    let mut request = members;
    request["messages"] = json!([]);
    let (mut chat, ..) = translate(&request);
    for member in ["model", "messages", "stream", "stream_options"] {
        chat.as_object_mut().unwrap().remove(member).unwrap();
    }
    chat
}

fn tool_result(content: Value) -> Value {
    json!({"type": "tool_result", "tool_use_id": "t1", "content": content})
}

#[test]
fn a_request_asks_for_the_model_and_for_a_stream_with_its_usage() {
    let request = json!({"model": "claude", "max_tokens": 12, "stream": false, "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi \u{1F600}\n"}, {"role": "assistant", "content": "Hello"}],
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop_sequences": ["END", "\n"],
        "metadata": {"user_id": "u1"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}});
    let chat = json!({"model": "smollm2-135m", "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi \u{1F600}\n"},
            {"role": "assistant", "content": "Hello"},
        ], "max_tokens": 12, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop": ["END", "\n"], "user": "u1",
        "stream": true, "stream_options": {"include_usage": true}});
    assert_eq!(translate(&request), (chat, vec![], Thinking::Hidden));
}

#[test]
fn a_system_prompt_is_the_first_message() {
    let system = |system: Value| translate(&json!({"system": system, "messages": []})).0["messages"].clone();
    let blocks =
        json!([{"type": "text", "text": "a\"", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]);
    assert_eq!(system(blocks), json!([{"role": "system", "content": "a\"\nb"}]));
    assert_eq!(system(json!("")), json!([]));
    assert_eq!(system(json!([])), json!([]));
    assert_eq!(system(json!(null)), json!([]));
    let later = json!([{"role": "system", "content": [{"type": "text", "text": "c"}]}]);
    assert_eq!(messages(later), json!([{"role": "system", "content": "c"}]));
}

#[test]
fn texts_alone_are_one_text() {
    let blocks = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "citations": null}]);
    assert_eq!(of_user(blocks), json!([{"role": "user", "content": "a\nb"}]));
    assert_eq!(of_user(json!([])), json!([{"role": "user", "content": ""}]));
}

#[test]
fn images_are_parts_next_to_texts() {
    let blocks = json!([
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
    ]);
    let parts = json!([
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
    ]);
    assert_eq!(of_user(blocks), json!([{"role": "user", "content": parts}]));
}

#[test]
fn a_large_image_is_a_slice_of_the_request() {
    let data = "aGk=".repeat(5_000);
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}});
    let request = Bytes::from(json!({"messages": [{"role": "user", "content": [image]}]}).to_string());
    let body = chat_request(&request, &model()).unwrap().body;
    let range = request.as_ptr_range();
    assert!(body.iter().any(|piece| piece.len() == data.len() && range.contains(&piece.as_ptr())));
}

#[test]
fn calls_of_tools_are_calls_with_arguments_as_text() {
    let turns = json!([{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": "\"é\"\n"}},
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
    ]}]);
    let expected = json!([{"role": "assistant", "content": "Let me see.", "tool_calls": [
        {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":\"\\\"é\\\"\\n\"}"}},
        {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]}]);
    assert_eq!(messages(turns), expected);
    let silent = json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f"}]}]);
    assert_eq!(messages(silent)[0]["content"], "");
    assert_eq!(messages(json!([{"role": "assistant", "content": []}])), json!([{"role": "assistant", "content": ""}]));
}

#[test]
fn results_of_tools_come_before_what_the_user_says() {
    let blocks = json!([
        {"type": "text", "text": "Here."},
        tool_result(json!("r1")),
        {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"type": "text", "text": "Go on."},
    ]);
    let expected = json!([
        {"role": "tool", "tool_call_id": "t1", "content": "r1"},
        {"role": "tool", "tool_call_id": "t2", "content": "a\nb"},
        {"role": "user", "content": "Here.\nGo on."},
    ]);
    assert_eq!(of_user(blocks), expected);
}

#[test]
fn results_of_tools_alone_leave_no_message_of_the_user() {
    let result = |content: &str| json!([{"role": "tool", "tool_call_id": "t1", "content": content}]);
    assert_eq!(of_user(json!([tool_result(json!("r"))])), result("r"));
    assert_eq!(of_user(json!([tool_result(json!(null))])), result(""));
    assert_eq!(of_user(json!([tool_result(json!([]))])), result(""));
    let failed = |is_error: bool| {
        of_user(json!([{"type": "tool_result", "tool_use_id": "t1", "content": "no\n", "is_error": is_error}]))
    };
    assert_eq!((failed(true), failed(false)), (result("Error: no\n"), result("no\n")));
}

#[test]
fn images_of_a_tools_result_go_to_the_user() {
    let image = json!({"type": "image", "source": {"type": "url", "url": "u"}});
    let blocks =
        json!([tool_result(json!([{"type": "text", "text": "r"}, image])), {"type": "text", "text": "Go on."}]);
    let parts = json!([{"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "Go on."}]);
    let expected = json!([{"role": "tool", "tool_call_id": "t1", "content": "r"}, {"role": "user", "content": parts}]);
    assert_eq!(of_user(blocks), expected);
}

#[test]
fn tools_are_functions() {
    let schema = json!({"type": "object", "properties": {"x": {"type": "string"}}});
    let tools = json!([
        {"name": "f", "description": "d", "input_schema": schema, "cache_control": {"type": "ephemeral"}},
        {"type": "custom", "name": "g", "input_schema": schema, "strict": true},
    ]);
    let functions = json!([
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
        {"type": "function", "function": {"name": "g", "parameters": schema, "strict": true}},
    ]);
    assert_eq!(members(json!({"tools": tools})), json!({"tools": functions}));
}

#[test]
fn the_choice_of_a_tool_is_translated() {
    let function = json!({"type": "function", "function": {"name": "f"}});
    let choice = |choice: Value| {
        let mut chat = members(json!({"tools": [{"name": "f"}], "tool_choice": choice}));
        chat.as_object_mut().unwrap().remove("tools");
        chat
    };
    for (theirs, ours) in [
        (json!({"type": "auto"}), json!("auto")),
        (json!({"type": "any", "disable_parallel_tool_use": false}), json!("required")),
        (json!({"type": "none"}), json!("none")),
        (json!({"type": "tool", "name": "f"}), function),
    ] {
        assert_eq!(choice(theirs), json!({"tool_choice": ours}));
    }
    let alone = choice(json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(alone, json!({"tool_choice": "auto", "parallel_tool_calls": false}));
}

#[test]
fn empty_lists_are_left_out() {
    let empty = json!({"tools": [], "tool_choice": {"type": "auto"}, "stop_sequences": [ ], "metadata": {}});
    assert_eq!(members(empty), json!({}));
}

#[test]
fn what_is_dropped_is_named() {
    let dropped = |members: Value| {
        let mut request = members;
        request["messages"] = json!([]);
        let (_, dropped, thinking) = translate(&request);
        (dropped, thinking)
    };
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    assert_eq!(dropped(thinking), (vec!["thinking"], Thinking::Shown));
    assert_eq!(dropped(json!({"thinking": {"type": "disabled"}})), (vec![], Thinking::Hidden));
    let others = json!({"mcp_servers": [], "container": "c", "output_config": {}, "context_management": {}, "seed": 1});
    let names = vec!["output_config", "mcp_servers", "container", "context_management"];
    assert_eq!(dropped(others), (names, Thinking::Hidden));
}
