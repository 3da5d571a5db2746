//! Requests that can't be translated, and why.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::stream::model;
use crate::core::formats::translate::fault::TranslateError;
use crate::core::formats::translate::{chat_request, error_body};

use TranslateError::{Invalid, Malformed, UnsupportedContent, UnsupportedImage, UnsupportedTool};

fn error(request: &str) -> TranslateError {
    chat_request(&Bytes::copy_from_slice(request.as_bytes()), &model()).err().unwrap()
}

fn of_content(role: &str, content: Value) -> TranslateError {
    error(&json!({"messages": [{"role": role, "content": content}]}).to_string())
}

fn of_members(members: Value) -> TranslateError {
    let mut request = members;
    request["messages"] = json!([]);
    error(&request.to_string())
}

#[test]
fn a_malformed_request_is_refused() {
    for request in ["", "7", "[]", "{", r#"{"messages":[],"messages":[]}"#] {
        assert_eq!(error(request), Malformed, "{request}");
    }
    for request in ["{}", r#"{"messages":{}}"#, r#"{"messages":[7]}"#, r#"{"messages":[[]]}"#] {
        assert_eq!(error(request), Invalid("messages"), "{request}");
    }
    assert_eq!(of_content("tool", json!("x")), Invalid("messages.role"));
    assert_eq!(of_content("user", json!(null)), Invalid("messages.content"));
    assert_eq!(of_content("user", json!(7)), Invalid("messages.content"));
    assert_eq!(of_content("assistant", json!(["x"])), Invalid("messages.content"));
}

#[test]
fn members_of_another_type_are_named() {
    for (content, field) in [
        (json!({"type": "text"}), "text"),
        (json!({"type": "image"}), "image.source"),
        (json!({"type": "image", "source": {"type": "base64", "data": "x"}}), "image.source.media_type"),
        (json!({"type": "image", "source": {"type": "base64", "media_type": "x", "data": 7}}), "image.source.data"),
        (json!({"type": "image", "source": {"type": "url"}}), "image.source.url"),
        (json!({"type": "tool_result"}), "tool_result.tool_use_id"),
        (json!({"type": "tool_result", "tool_use_id": "t", "content": 7}), "tool_result.content"),
    ] {
        assert_eq!(of_content("user", json!([content])), Invalid(field));
    }
    for (content, field) in [
        (json!({"type": "tool_use", "name": "f", "input": {}}), "tool_use.id"),
        (json!({"type": "tool_use", "id": "t", "input": {}}), "tool_use.name"),
        (json!({"type": "tool_use", "id": "t", "name": "f", "input": []}), "tool_use.input"),
    ] {
        assert_eq!(of_content("assistant", json!([content])), Invalid(field));
    }
    assert_eq!(of_members(json!({"system": 7})), Invalid("system"));
    assert_eq!(of_members(json!({"tools": {}})), Invalid("tools"));
    assert_eq!(of_members(json!({"tools": [{"input_schema": {}}]})), Invalid("tools.name"));
    assert_eq!(of_members(json!({"tool_choice": {"type": "any"}})), Invalid("tool_choice"));
    assert_eq!(of_members(json!({"tools": [{"name": "f"}], "tool_choice": "any"})), Invalid("tool_choice"));
    assert_eq!(
        of_members(json!({"tools": [{"name": "f"}], "tool_choice": {"type": "tool"}})),
        Invalid("tool_choice.name")
    );
    assert_eq!(of_members(json!({"stop_sequences": "x"})), Invalid("stop_sequences"));
    assert_eq!(of_members(json!({"metadata": {"user_id": 7}})), Invalid("metadata.user_id"));
}

#[test]
fn what_chat_completions_have_no_place_for_is_refused() {
    let document = json!([{"type": "document", "source": {"type": "text", "data": "x"}}]);
    assert_eq!(of_content("user", document.clone()), UnsupportedContent("document"));
    let result = json!([{"type": "tool_result", "tool_use_id": "t", "content": document}]);
    assert_eq!(of_content("user", result), UnsupportedContent("document"));
    assert_eq!(of_content("user", json!([{"type": "hologram"}])), UnsupportedContent("content"));
    assert_eq!(of_content("user", json!([{}])), UnsupportedContent("content"));
    assert_eq!(of_content("assistant", json!([{"type": "server_tool_use"}])), UnsupportedContent("server_tool_use"));
    assert_eq!(of_content("user", json!([{"type": "thinking"}])), UnsupportedContent("content"));
    let file = json!([{"type": "image", "source": {"type": "file", "file_id": "f"}}]);
    assert_eq!(of_content("user", file), UnsupportedImage);
    assert_eq!(of_members(json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]})), UnsupportedTool);
}

#[test]
fn a_refusal_names_the_error_and_quotes_nothing() {
    let refused = of_content("user", json!([{"type": "secret", "text": "secret"}]));
    let body: Value = serde_json::from_slice(&error_body(400, refused.to_string().as_bytes())).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert_eq!(body["error"]["message"], refused.to_string());
    assert!(!refused.to_string().contains("secret"));
}

#[test]
fn deep_nesting_is_skipped() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(error(&format!("{{\"messages\":{deep}}}")), Invalid("messages"));
    let content = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":{deep}}}]}}");
    assert_eq!(error(&content), Invalid("messages.content"));
    let input = format!(
        "{{\"messages\":[{{\"role\":\"assistant\",\"content\":[{{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{{\"x\":{deep}}}}}]}}]}}"
    );
    assert!(chat_request(&Bytes::from(input), &model()).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_refused_or_becomes_json(content in "[\\[\\]{}\",:\\\\ a1]{0,40}") {
        for request in [content.clone(), format!("{{\"messages\":[{{\"role\":\"user\",\"content\":{content}}}]}}")] {
            if let Ok(translated) = chat_request(&Bytes::from(request), &model()) {
                prop_assert!(serde_json::from_slice::<serde_json::Map<_, _>>(&translated.body.concat()).is_ok());
            }
        }
    }
}
