//! Requests for Anthropic's messages that become requests for chat completions.

use std::collections::HashSet;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::input::Input;
use crate::core::formats::translate::chat_request;
use crate::core::json::walk;
use crate::messages::ids::ModelId;

/// Bytes that come out for each one that comes in, at the most, and for a request as such.
const GROWTH: usize = 16;
const FIXED: usize = 300;

pub fn check(input: &[u8]) {
    let request = Bytes::copy_from_slice(Input::new(input).rest());
    let model = ModelId::from("a \"model\"\n");
    let Ok(translated) = chat_request(&request, &model) else { return };
    let body = translated.body.concat();
    assert!(body.len() <= GROWTH * request.len() + FIXED, "what comes out is bounded");
    serde_json::from_slice::<IgnoredAny>(&body).unwrap();
    let mut names = HashSet::new();
    walk(&body, |key, _| assert!(names.insert(key), "no member comes twice")).unwrap();
    // The parser of the comparison takes no half of a surrogate pair.
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return };
    assert_eq!((body["model"].as_str(), &body["stream"]), (Some(model.as_str()), &Value::Bool(true)));
    assert_eq!(body["stream_options"]["include_usage"], true);
    for message in body["messages"].as_array().unwrap() {
        is_a_message(message);
    }
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        assert!(tool["type"] == "function" && tool["function"]["name"].is_string());
    }
}

fn is_a_message(message: &Value) {
    let content = &message["content"];
    match message["role"].as_str().unwrap() {
        "system" => assert!(content.is_string()),
        "tool" => assert!(content.is_string() && message["tool_call_id"].is_string()),
        "user" => assert!(content.is_string() || content.is_array()),
        "assistant" => {
            assert!(content.is_string());
            for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                assert!(call["id"].is_string() && call["function"]["name"].is_string());
                let arguments = call["function"]["arguments"].as_str().unwrap();
                serde_json::from_str::<IgnoredAny>(arguments).unwrap();
            }
        }
        role => panic!("{role}"),
    }
}
