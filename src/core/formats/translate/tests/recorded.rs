//! Recorded chat completions streams of real servers, and their own streams of messages for the same prompt.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::grammar::{Event, check, events};
use super::stream::{folded, model, translated};
use crate::core::formats::translate::{MessageEvents, Thinking, chat_request};
use crate::core::formats::usage::{BackendFault, Ending, ResponseScan};
use crate::messages::endpoint::Endpoint;

/// Streams that came to their end.
const COMPLETE: &[&str] = &[
    "llama-server-b11549/chat_stream_usage",
    "llama-server-b11549/chat_stream_nousage",
    "llama-server-b11549/chat_stream_n2",
    "llama-server-b11549/chat_stream_stop",
    "llama-server-b11549/chat_stream_tools_required",
    "llama-server-b11549/chat_stream_tool_call",
    "llama-server-b11549/chat_stream_sse_ping",
    "llama-server-b11549/chat_stream_return_progress",
    "litellm-1.106.2/chat_stream_usage",
    "litellm-1.106.2/chat_stream_nousage",
    "litellm-1.106.2/chat_stream_n2",
    "litellm-1.106.2/chat_stream_stop",
    "litellm-1.106.2/chat_stream_tools_required",
];

fn body(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{name}.http"));
    let response = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let head = memchr::memmem::find(&response, b"\r\n\r\n").unwrap();
    response[head + 4..].to_vec()
}

fn complete(name: &str) -> Vec<u8> {
    let (out, ending) = translated(&[&body(name)], Thinking::Shown);
    assert!(matches!(ending, Ending::Complete { .. }), "{name}: {ending:?}");
    check(&events(&out), &ending);
    out.to_vec()
}

/// An event without what no two responses share, and without usage, which servers put in different events.
fn comparable((name, mut data): Event) -> Event {
    if let Some(message) = data.get_mut("message").and_then(Value::as_object_mut) {
        message.remove("id");
        message.remove("usage");
    }
    if let Some(block) = data.get_mut("content_block").and_then(Value::as_object_mut) {
        block.remove("id");
        // Empty by Anthropic's reference, and left out by llama.cpp.
        block.remove("input");
    }
    if let Some(data) = data.as_object_mut() {
        data.remove("usage");
    }
    (name, data)
}

#[test]
fn a_stream_becomes_the_events_that_the_server_itself_would_send() {
    let (llama, litellm) = ("llama-server-b11549", "litellm-1.106.2");
    for (server, chat, messages) in [
        (llama, "chat_stream_usage", "messages_stream"),
        (llama, "chat_stream_tool_call", "messages_stream_tool_call"),
        (litellm, "chat_stream_usage", "messages_stream"),
    ] {
        let ours = complete(&format!("{server}/{chat}"));
        let theirs = body(&format!("{server}/{messages}"));
        let [ours_compared, theirs_compared] =
            [&ours, &theirs].map(|stream| events(stream).into_iter().map(comparable).collect::<Vec<_>>());
        assert_eq!(ours_compared, theirs_compared, "{server}: {chat}");

        let usage = |stream: &[u8]| folded(stream, Endpoint::Messages).unwrap()["usage"].clone();
        for figure in ["input_tokens", "cache_read_input_tokens", "output_tokens"] {
            assert_eq!(usage(&ours)[figure], usage(&theirs)[figure], "{server}: {figure}");
        }
    }
}

#[test]
fn a_translated_stream_assembles_to_the_backends_text_and_counts() {
    for name in COMPLETE {
        let source = body(name);
        let chat = folded(&source, Endpoint::ChatCompletions).unwrap();
        let message = folded(&complete(name), Endpoint::Messages).unwrap();
        let said: String =
            message["content"].as_array().unwrap().iter().filter_map(|block| block["text"].as_str()).collect();
        assert_eq!(chat["choices"][0]["message"]["content"].as_str().unwrap_or_default(), said, "{name}");
        let stop = match chat["choices"][0]["finish_reason"].as_str() {
            Some("length") => "max_tokens",
            Some("tool_calls") => "tool_use",
            _ => "end_turn",
        };
        assert_eq!(message["stop_reason"], stop, "{name}");

        let mut scan = ResponseScan::new(Endpoint::ChatCompletions);
        scan.feed(&source);
        let scanned = scan.finish();
        assert_eq!(translated(&[&source], Thinking::Shown).1, scanned, "{name}");
        let Ending::Complete { tokens } = scanned else { panic!("{name}") };
        let figure = |figure: &str| message["usage"][figure].as_u64().unwrap_or(0);
        let input = figure("input_tokens") + figure("cache_read_input_tokens");
        assert_eq!((input, figure("output_tokens")), (tokens.input, tokens.output), "{name}");
    }
}

#[test]
fn a_recorded_tool_call_becomes_the_block_that_the_server_itself_would_send() {
    let whole = |name: &str| serde_json::from_slice::<Value>(&body(&format!("llama-server-b11549/{name}"))).unwrap();
    let blocks = |message: &Value| {
        let mut content = message["content"].clone();
        for block in content.as_array_mut().unwrap() {
            assert!(!block["id"].take().as_str().unwrap().is_empty());
        }
        content
    };
    let theirs = whole("messages_tool_call");
    let called = json!([{"type": "tool_use", "id": null, "name": "weather", "input": {"city": "Paris"}}]);
    assert_eq!(blocks(&theirs), called);
    let streamed = folded(&complete("llama-server-b11549/chat_stream_tool_call"), Endpoint::Messages).unwrap();

    let mut translation = MessageEvents::new(&model(), Thinking::Shown);
    let mut out = BytesMut::new();
    translation.take_whole(whole("chat_tool_call").to_string().as_bytes(), &mut out);
    translation.finish(&mut out);
    for ours in [streamed, folded(&out, Endpoint::Messages).unwrap()] {
        assert_eq!(blocks(&ours), called);
        assert_eq!(ours["stop_reason"], theirs["stop_reason"]);
        assert_eq!(ours["usage"]["output_tokens"], theirs["usage"]["output_tokens"]);
    }
}

/// A request for chat completions without the liberties that the format leaves.
fn plain(mut chat: Value) -> Value {
    for message in chat["messages"].as_array_mut().unwrap() {
        message.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        if let Some([part]) = message["content"].as_array().map(Vec::as_slice)
            && part["type"] == "text"
        {
            message["content"] = part["text"].clone();
        }
        if message["content"] == "" {
            message.as_object_mut().unwrap().remove("content");
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            *arguments = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
        }
    }
    chat
}

#[test]
fn a_request_becomes_what_litellm_makes_of_it() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/litellm-1.106.2/translated_requests.jsonl");
    for pair in std::fs::read_to_string(path).unwrap().lines() {
        let pair: Value = serde_json::from_str(pair).unwrap();
        let request = Bytes::from(pair["messages"].to_string());
        let ours = chat_request(&request, &model()).unwrap().body.concat();
        let mut ours: Value = serde_json::from_slice(&ours).unwrap();
        for own in ["stream", "stream_options"] {
            ours.as_object_mut().unwrap().remove(own).unwrap();
        }
        assert_eq!(plain(ours), plain(pair["chat"].clone()));
    }
}

#[test]
fn only_the_first_choice_is_translated() {
    let said = "Hello, welcome to my little corner of the world.";
    let message = folded(&complete("llama-server-b11549/chat_stream_n2"), Endpoint::Messages).unwrap();
    assert_eq!(message["content"], json!([{"type": "text", "text": said}]));
}

#[test]
fn a_stream_cut_off_anywhere_has_no_message_stop() {
    for name in ["llama-server-b11549/chat_stream_usage", "litellm-1.106.2/chat_stream_usage"] {
        let body = body(name);
        let end = memchr::memmem::rfind(&body, b"[DONE]").unwrap() + 5;
        for at in (0..=end).step_by(7).chain([end]) {
            let (out, ending) = translated(&[&body[..at]], Thinking::Shown);
            check(&events(&out), &ending);
            assert_eq!(ending, Ending::Truncated, "{name} cut off at {at}");
        }
    }
}

#[test]
fn a_proxy_whose_server_was_killed_ends_with_an_error_event() {
    let body = body("litellm-1.106.2/chat_stream_upstream_killed_trimmed");
    let end = memchr::memmem::rfind(&body, b"...[trimmed]...\n").unwrap();
    let recorded = &body[end + memchr::memmem::find(&body[end..], b"data: ").unwrap()..];
    let (out, ending) = translated(&[recorded], Thinking::Shown);
    let events = events(&out);
    check(&events, &ending);
    assert_eq!(ending, Ending::Failed(BackendFault { label: Some("500".to_owned()) }));
    let (_, error) = events.last().unwrap();
    assert_eq!(error["error"]["type"], "api_error");
    assert!(error["error"]["message"].as_str().unwrap().starts_with("litellm.APIConnectionError"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_gives_the_same_bytes(
        which in 0..COMPLETE.len(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let body = body(COMPLETE[which]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &body[ends[0]..ends[1]]).collect();
        prop_assert_eq!(translated(&pieces, Thinking::Shown), translated(&[&body], Thinking::Shown));
    }
}
