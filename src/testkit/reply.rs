//! The responses of a scripted backend, as values.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::messages::endpoint::Endpoint;

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An event stream of these pieces, to its end.
    Stream(Vec<Bytes>),
    /// An event stream of these pieces, and then a fault.
    StreamThen(Vec<Bytes>, StreamFault),
    /// A status and a JSON body.
    Status(u16, Bytes),
    /// A status of 200 with another type of content.
    Content(&'static str, Bytes),
    /// The connection is refused.
    Refuse,
    /// The connection breaks once the request is there.
    Break,
    /// A response that is not HTTP.
    Garble,
    /// Over TCP these bytes, HTTP or not, and then the end of the connection. In memory, where there is no HTTP, the
    /// same as `Garble`.
    Raw(Bytes),
    /// No answer at all.
    Hang,
    /// The client code itself has a bug.
    Panic,
    /// The test decides, by the request's handle.
    ByHand,
    /// Another reply, so many turns of the runtime later.
    Turns(u32, Box<Reply>),
    /// Another reply, this much later.
    After(Duration, Box<Reply>),
}

/// How a stream ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// It ends as if it were complete.
    Truncate,
    /// The connection breaks.
    Break,
    /// Nothing more comes.
    Stall,
    /// The client code itself has a bug.
    Panic,
}

impl Reply {
    /// A complete response of this endpoint with `text`, and with usage: a stream, and of embeddings one body.
    pub fn saying(endpoint: Endpoint, text: &str) -> Self {
        match endpoint {
            Endpoint::Embeddings => Self::whole(endpoint, text),
            _ => Self::Stream(answer(endpoint, text, 3, 5)),
        }
    }

    /// The same answer as one body, as from a server that ignores `stream`.
    pub fn whole(endpoint: Endpoint, text: &str) -> Self {
        Self::Content("application/json", whole_answer(endpoint, text, 3, 5))
    }

    /// A stream of these pieces.
    pub fn pieces(pieces: &[&'static str]) -> Self {
        Self::Stream(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect())
    }
}

/// The events of a complete response, one in each piece. Embeddings have no events: their one body.
pub fn answer(endpoint: Endpoint, text: &str, input: u64, output: u64) -> Vec<Bytes> {
    let whole = || String::from_utf8_lossy(&whole_answer(endpoint, text, input, output)).into_owned();
    let said = Value::from(text);
    let events = match endpoint {
        Endpoint::ChatCompletions => vec![
            format!(r#"data: {{"choices":[{{"index":0,"delta":{{"content":{said}}}}}]}}"#),
            r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
            format!(r#"data: {{"choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#),
            "data: [DONE]".to_owned(),
        ],
        Endpoint::Completions => vec![
            format!(r#"data: {{"choices":[{{"index":0,"text":{said}}}]}}"#),
            format!(
                r#"data: {{"choices":[{{"index":0,"text":"","finish_reason":"stop"}}],"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#
            ),
            "data: [DONE]".to_owned(),
        ],
        Endpoint::Embeddings => return vec![whole_answer(endpoint, text, input, output)],
        Endpoint::Responses => vec![
            named(r#"{"type":"response.created","response":{"object":"response","status":"in_progress"}}"#),
            named(&format!(r#"{{"type":"response.output_text.delta","delta":{said}}}"#)),
            named(&format!(r#"{{"type":"response.completed","response":{}}}"#, whole())),
        ],
        Endpoint::Messages => vec![
            named(&format!(
                r#"{{"type":"message_start","message":{{"usage":{{"input_tokens":{input},"output_tokens":1}}}}}}"#
            )),
            named(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
            named(&format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":{said}}}}}"#
            )),
            named(r#"{"type":"content_block_stop","index":0}"#),
            named(&format!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{{"output_tokens":{output}}}}}"#
            )),
            named(r#"{"type":"message_stop"}"#),
        ],
    };
    events.into_iter().map(|event| Bytes::from(format!("{event}\n\n"))).collect()
}

/// An event with its type as its name.
fn named(data: &str) -> String {
    let kind = data.split('"').nth(3).unwrap_or_default();
    format!("event: {kind}\ndata: {data}")
}

/// A complete response in one body. Embeddings contain neither `text` nor generated tokens.
pub fn whole_answer(endpoint: Endpoint, text: &str, input: u64, output: u64) -> Bytes {
    let counted = json!({"prompt_tokens": input, "completion_tokens": output});
    let figures = json!({"input_tokens": input, "output_tokens": output});
    let body = match endpoint {
        Endpoint::ChatCompletions => json!({"object": "chat.completion", "usage": counted, "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}),
        Endpoint::Completions => json!({"object": "text_completion", "usage": counted, "choices": [
            {"index": 0, "text": text, "logprobs": null, "finish_reason": "stop"}]}),
        Endpoint::Embeddings => json!({"object": "list", "usage": {"prompt_tokens": input, "total_tokens": input},
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]}),
        Endpoint::Responses => json!({"object": "response", "status": "completed", "usage": figures, "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]}),
        Endpoint::Messages => json!({"type": "message", "role": "assistant", "usage": figures,
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null}),
    };
    body.to_string().into()
}
