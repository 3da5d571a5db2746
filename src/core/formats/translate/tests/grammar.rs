//! The order of events that clients of Anthropic's API rely on, as a checker.
//!
//! ```text
//! stream  = start block* end? | prefix error
//! block   = content_block_start content_block_delta* content_block_stop
//! end     = message_delta message_stop
//! ```
//!
//! Blocks are numbered from 0 without a gap, a delta is of the kind of its block, and every event's name is its type. A
//! `prefix` is a stream that breaks off anywhere.

use serde_json::Value;

use crate::core::formats::sse::SseSplitter;
use crate::core::formats::usage::Ending;

/// An event's name and its data.
pub(crate) type Event = (String, Value);

/// The events of a stream.
pub(crate) fn events(stream: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut splitter = SseSplitter::new(usize::MAX);
    let mut add = |event: crate::core::formats::sse::Event<'_>| {
        let name = std::str::from_utf8(event.name).unwrap().to_owned();
        events.push((name, serde_json::from_slice(event.data).unwrap()));
    };
    splitter.feed(stream, &mut add);
    splitter.finish(&mut add);
    events
}

#[derive(Debug, PartialEq)]
enum State {
    Nothing,
    Between,
    Within(&'static str),
    Ending,
    Over,
    Failed,
}

/// Panics where the events are in no order that clients know, or end otherwise than they should.
pub(crate) fn check(events: &[Event], ending: &Ending) {
    let (mut state, mut index) = (State::Nothing, 0_u64);
    for (name, data) in events {
        assert_eq!(data["type"], name.as_str());
        state = match (state, name.as_str()) {
            (State::Nothing, "message_start") => {
                started(&data["message"]);
                State::Between
            }
            (State::Between, "content_block_start") => {
                assert_eq!(data["index"], index);
                State::Within(delta_of(&data["content_block"]))
            }
            (State::Within(delta), "content_block_delta") => {
                assert_eq!(data["index"], index);
                assert_eq!(data["delta"]["type"], delta);
                State::Within(delta)
            }
            (State::Within(_), "content_block_stop") => {
                assert_eq!(data["index"], index);
                index += 1;
                State::Between
            }
            (State::Between, "message_delta") => {
                assert!(data["delta"]["stop_reason"].is_string());
                assert!(data["usage"]["output_tokens"].is_u64() && data["usage"]["input_tokens"].is_u64());
                State::Ending
            }
            (State::Ending, "message_stop") => State::Over,
            (State::Nothing | State::Between | State::Within(_), "error") => {
                assert!(data["error"]["type"].is_string() && data["error"]["message"].is_string());
                State::Failed
            }
            (state, name) => panic!("{name} comes where {state:?} is"),
        };
    }
    match ending {
        Ending::Complete { .. } => assert_eq!(state, State::Over),
        Ending::Failed(_) | Ending::Unread => assert_eq!(state, State::Failed),
        Ending::Truncated => assert!(matches!(state, State::Nothing | State::Between | State::Within(_)), "{state:?}"),
    }
}

fn started(message: &Value) {
    assert!(message["id"].as_str().is_some_and(|id| !id.is_empty()) && message["model"].is_string());
    assert_eq!((message["type"].as_str(), message["role"].as_str()), (Some("message"), Some("assistant")));
    assert!(message["content"].as_array().is_some_and(Vec::is_empty) && message["stop_reason"].is_null());
    assert!(message["usage"]["input_tokens"].is_u64() && message["usage"]["output_tokens"] == 0);
}

/// The type of the deltas that a block has.
fn delta_of(block: &Value) -> &'static str {
    match block["type"].as_str() {
        Some("text") if block["text"] == "" => "text_delta",
        Some("thinking") if block["thinking"] == "" => "thinking_delta",
        Some("tool_use") if block["id"].is_string() && block["name"].is_string() => {
            assert!(block["input"].as_object().is_some_and(serde_json::Map::is_empty));
            "input_json_delta"
        }
        _ => panic!("no such block"),
    }
}
