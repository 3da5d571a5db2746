//! What a scripted backend answers, as values.

use std::time::Duration;

use bytes::Bytes;

use crate::messages::backend::Format;
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
    /// An answer that is no HTTP.
    Garble,
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

/// How a stream ends that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// It ends as if it were whole.
    Truncate,
    /// The connection breaks.
    Break,
    /// Nothing more comes.
    Stall,
    /// The client code itself has a bug.
    Panic,
}

impl Reply {
    /// A whole answer in this format that says `text`, with usage.
    pub fn saying(endpoint: Endpoint, text: &str) -> Self {
        Self::Stream(answer(endpoint, text, 3, 5))
    }

    /// A stream of these pieces.
    pub fn pieces(pieces: &[&'static str]) -> Self {
        Self::Stream(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect())
    }
}

/// The events of a whole answer, one a piece.
pub fn answer(endpoint: Endpoint, text: &str, input: u64, output: u64) -> Vec<Bytes> {
    let text = serde_json::Value::from(text);
    let events = match endpoint.format() {
        Format::OpenAi => vec![
            format!(r#"data: {{"choices":[{{"index":0,"delta":{{"content":{text}}}}}]}}"#),
            r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
            format!(r#"data: {{"choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#),
            "data: [DONE]".to_owned(),
        ],
        Format::Anthropic => vec![
            format!(
                "event: message_start\n\
                 data: {{\"type\":\"message_start\",\"message\":{{\"usage\":{{\"input_tokens\":{input},\"output_tokens\":1}}}}}}"
            ),
            format!(
                "event: content_block_delta\n\
                 data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":{text}}}}}"
            ),
            format!(
                "event: message_delta\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":{output}}}}}"
            ),
            "event: message_stop\ndata: {\"type\":\"message_stop\"}".to_owned(),
        ],
    };
    events.into_iter().map(|event| Bytes::from(format!("{event}\n\n"))).collect()
}
