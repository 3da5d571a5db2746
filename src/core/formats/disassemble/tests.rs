//! What is disassembled can be assembled again.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{DisassembleError, disassemble};
use crate::core::formats::assemble::Assembly;
use crate::core::formats::sse::{EVENT_LIMIT, SseSplitter};
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

fn events(endpoint: Endpoint, body: &str) -> Result<Vec<(String, Value)>, DisassembleError> {
    let stream = disassemble(endpoint, body.as_bytes())?;
    let mut events = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut splitter = SseSplitter::new(EVENT_LIMIT);
    splitter.feed(&stream, |event| {
        let data = serde_json::from_slice(event.data).unwrap_or_else(|_| text(event.data).into());
        events.push((text(event.name), data));
    });
    Ok(events)
}

fn folded(endpoint: Endpoint, body: &str) -> (Value, Tokens) {
    let mut assembly = Assembly::new(endpoint, 1 << 20);
    assembly.feed(&disassemble(endpoint, body.as_bytes()).unwrap()).unwrap();
    let Ok(whole) = assembly.finish() else { panic!("no whole answer") };
    (serde_json::from_slice(&whole.body).unwrap(), whole.tokens)
}

fn a_chat() -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 7, "model": "m", "choices": [
        {"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [{"token": "a"}]},
         "message": {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]}},
        {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "ü\n\u{1F600}"}},
    ], "usage": {"prompt_tokens": 12, "completion_tokens": 3}})
}

fn a_message() -> Value {
    json!({"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a \"b\""},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": ["\\", 1.5]}},
    ], "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 9}})
}

#[test]
fn a_disassembled_response_can_be_assembled_to_the_same_body() {
    let text = json!({"id": "c", "object": "text_completion", "model": "m", "choices": [
        {"text": "a", "index": 0, "logprobs": null, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 1}});
    for (endpoint, body, tokens) in [
        (Endpoint::ChatCompletions, a_chat(), Tokens::new(12, 3)),
        (Endpoint::Completions, text, Tokens::new(4, 1)),
        (Endpoint::Messages, a_message(), Tokens::new(5, 9)),
    ] {
        assert_eq!(folded(endpoint, &body.to_string()), (body.clone(), tokens));
        let pretty = serde_json::to_string_pretty(&body).unwrap().replace('\n', "\r\n");
        assert_eq!(folded(endpoint, &pretty), (body, tokens));
    }
}

#[test]
fn a_chat_is_one_chunk_its_usage_and_the_end_mark() {
    let events = events(Endpoint::ChatCompletions, &a_chat().to_string()).unwrap();
    let data: Vec<_> = events.into_iter().map(|(_, data)| data).collect();
    let [content, usage, done] = &data[..] else { panic!("{} events", data.len()) };
    assert_eq!(content["object"], "chat.completion.chunk");
    assert_eq!(content["choices"][0]["delta"]["tool_calls"][1]["index"], 1);
    assert_eq!(content["choices"][1]["delta"]["content"], "ü\n\u{1F600}");
    assert!(content.get("usage").is_none());
    assert_eq!((&usage["choices"], &usage["usage"]["prompt_tokens"]), (&json!([]), &json!(12)));
    assert_eq!(done, "[DONE]");
}

#[test]
fn a_message_is_the_sequence_that_clients_expect() {
    let events = events(Endpoint::Messages, &a_message().to_string()).unwrap();
    assert!(events.iter().all(|(name, data)| data["type"] == **name));
    let names: Vec<_> = events.iter().map(|(name, _)| name.trim_start_matches("content_block_")).collect();
    let two = ["start", "delta", "stop"];
    let mut expected = vec!["message_start", "start", "delta", "delta", "stop"];
    expected.extend(two);
    expected.extend(["start", "stop"]);
    expected.extend(two);
    expected.extend(["message_delta", "message_stop"]);
    assert_eq!(names, expected);
    assert_eq!(events[0].1["message"]["content"], json!([]));
    assert_eq!(events[1].1["content_block"], json!({"type": "thinking", "thinking": "", "signature": ""}));
    assert_eq!(events[5].1["content_block"], json!({"type": "text", "text": ""}));
}

#[test]
fn a_body_that_is_not_a_response_is_refused() {
    for body in ["", "[]", "7", "{}", r#"{"choices":7}"#, r#"{"choices":[7]}"#, r#"{"choices":[{"message":[]}]}"#] {
        assert_eq!(disassemble(Endpoint::ChatCompletions, body.as_bytes()), Err(DisassembleError::Malformed), "{body}");
    }
    for body in ["{}", r#"{"choices":{}}"#, r#"{"choices":[]"#] {
        assert_eq!(disassemble(Endpoint::Completions, body.as_bytes()), Err(DisassembleError::Malformed), "{body}");
    }
    for body in ["{}", r#"{"type":"error"}"#, r#"{"type":"message","content":"x"}"#] {
        assert_eq!(disassemble(Endpoint::Messages, body.as_bytes()), Err(DisassembleError::Malformed), "{body}");
    }
    let many = format!(r#"{{"choices":[{}0]}}"#, "0,".repeat(1000));
    assert_eq!(disassemble(Endpoint::ChatCompletions, many.as_bytes()), Err(DisassembleError::Malformed));
    let many = format!(r#"{{"type":"message","content":[{}{{}}]}}"#, "{},".repeat(1000));
    assert_eq!(disassemble(Endpoint::Messages, many.as_bytes()), Err(DisassembleError::Malformed));
    for endpoint in [Endpoint::Responses, Endpoint::Embeddings] {
        assert_eq!(disassemble(endpoint, b"{}"), Err(DisassembleError::NoStream));
    }
}

proptest! {
    #[test]
    fn any_text_comes_through(text in "\\PC{0,40}|[\\n\\r\"\\\\]{0,9}") {
        let chat = json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]});
        let (folded, _) = folded(Endpoint::ChatCompletions, &chat.to_string());
        prop_assert_eq!(&folded["choices"][0]["message"]["content"], &Value::from(text.as_str()));
        let message = json!({"type": "message", "content": [{"type": "text", "text": text}]});
        let (folded, _) = self::folded(Endpoint::Messages, &message.to_string());
        prop_assert_eq!(&folded["content"][0]["text"], &Value::from(text));
    }

    #[test]
    fn no_input_panics(body in "[{}\\[\\]\":,a1 \\\\]{0,24}") {
        for endpoint in Endpoint::ALL {
            let _ = disassemble(endpoint, body.as_bytes());
        }
    }
}
