//! A stream put through the translation, and what comes out as one body.

use bytes::BytesMut;
use serde_json::Value;

use crate::core::formats::assemble::{AssembleError, Assembly};
use crate::core::formats::translate::{MessageEvents, Thinking};
use crate::core::formats::usage::Ending;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;

pub(crate) fn model() -> ModelId {
    ModelId::from("smollm2-135m")
}

pub(crate) fn translated(pieces: &[&[u8]], thinking: Thinking) -> (BytesMut, Ending) {
    let mut events = MessageEvents::new(&model(), thinking);
    let mut out = BytesMut::new();
    for piece in pieces {
        events.feed(piece, &mut out);
    }
    let ending = events.finish(&mut out);
    (out, ending)
}

/// The one body that a stream makes.
pub(crate) fn folded(stream: &[u8], endpoint: Endpoint) -> Result<Value, AssembleError> {
    let mut assembly = Assembly::new(endpoint, 64 << 20);
    assembly.feed(stream)?;
    Ok(serde_json::from_slice(&assembly.finish()?.body).unwrap())
}

/// A stream of these chunks with its end mark.
pub(crate) fn stream_of(chunks: &[Value]) -> Vec<u8> {
    let chunks: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    format!("{chunks}data: [DONE]\n\n").into_bytes()
}
