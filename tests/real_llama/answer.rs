//! What a model said, read the same way from every shape that an answer has.

use serde_json::{Value, json};

use crate::client::Event;

/// The name of the model.
pub(crate) const MODEL: &str = "smollm2-135m";
/// OpenAI's way of chatting.
pub(crate) const CHAT: &str = "/v1/chat/completions";
/// Anthropic's.
pub(crate) const MESSAGES: &str = "/v1/messages";

/// An answer as far as its reader cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// `finish_reason` or `stop_reason`.
    pub(crate) ending: String,
    /// Tokens of the prompt and of the answer. Absent where the shape has none.
    pub(crate) tokens: Option<(u64, u64)>,
}

/// A chat that always has the same answer, computed anew.
pub(crate) fn greedy_chat(prompt: &str, max_tokens: u32) -> Value {
    json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": prompt }],
        "max_tokens": max_tokens,
        "temperature": 0,
        "cache_prompt": false,
    })
}

/// The same, streamed.
pub(crate) fn streamed(mut request: Value) -> Value {
    request["stream"] = true.into();
    request
}

/// The same, streamed and with its usage.
pub(crate) fn streamed_with_usage(request: Value) -> Value {
    let mut request = streamed(request);
    request["stream_options"] = json!({ "include_usage": true });
    request
}

/// A stream that goes on for longer than any test.
pub(crate) fn endless_chat() -> Value {
    let mut request = streamed(greedy_chat("Write a long story about a lighthouse keeper and his dog.", 2000));
    request["ignore_eos"] = true.into();
    request
}

impl Answer {
    pub(crate) fn of_chat(body: &Value) -> Self {
        let choice = &body["choices"][0];
        Self {
            text: text(&choice["message"]["content"]),
            ending: text(&choice["finish_reason"]),
            tokens: tokens(&body["usage"], "prompt_tokens", "completion_tokens"),
        }
    }

    pub(crate) fn of_chat_events(events: &[Event]) -> Self {
        let (mark, chunks) = events.split_last().expect("events");
        assert_eq!(mark.data, "[DONE]");
        let mut answer = Self::default();
        for chunk in chunks.iter().map(|event| event.json().expect("JSON")) {
            answer.text += &text(&chunk["choices"][0]["delta"]["content"]);
            answer.ending += &text(&chunk["choices"][0]["finish_reason"]);
            answer.tokens = answer.tokens.or(tokens(&chunk["usage"], "prompt_tokens", "completion_tokens"));
        }
        answer
    }

    pub(crate) fn of_message(body: &Value) -> Self {
        Self {
            text: text(&body["content"][0]["text"]),
            ending: text(&body["stop_reason"]),
            tokens: tokens(&body["usage"], "input_tokens", "output_tokens"),
        }
    }

    pub(crate) fn of_message_events(events: &[Event]) -> Self {
        assert_eq!(events.last().and_then(|event| event.name.as_deref()), Some("message_stop"));
        let mut answer = Self::default();
        let (mut input, mut output) = (None, None);
        for event in events {
            let data = event.json().expect("JSON");
            assert_eq!(data["type"].as_str(), event.name.as_deref());
            answer.text += &text(&data["delta"]["text"]);
            answer.ending += &text(&data["delta"]["stop_reason"]);
            input = input.or(data["message"]["usage"]["input_tokens"].as_u64());
            output = data["usage"]["output_tokens"].as_u64().or(output);
        }
        answer.tokens = input.zip(output);
        answer
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn tokens(usage: &Value, input: &str, output: &str) -> Option<(u64, u64)> {
    usage[input].as_u64().zip(usage[output].as_u64())
}
