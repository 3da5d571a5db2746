//! One body that becomes a stream.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::assemble::assembled;
use super::input::Input;
use crate::core::formats::sse::standard;
use crate::core::formats::assemble::AssembleError;
use crate::core::formats::disassemble::disassemble;
use crate::messages::endpoint::Endpoint;

/// Bytes that come out for each one that comes in, at the most, and for a body as such.
const GROWTH: usize = 24;
const FIXED: usize = 1_000;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let endpoint = input.one_of(&Endpoint::ALL);
    let body = input.rest();
    let Ok(stream) = disassemble(endpoint, body) else { return };
    assert!(stream.len() <= GROWTH * body.len() + FIXED, "what comes out is bounded");
    let mut events = standard::events(&stream);
    assert!(stream.ends_with(b"\n\n"));
    if endpoint == Endpoint::Messages {
        assert_eq!(events.last().map(|(name, _)| &name[..]), Some(&b"message_stop"[..]));
    } else {
        assert_eq!(events.pop(), Some((Vec::new(), b"[DONE]".to_vec())));
    }
    for (name, data) in events {
        serde_json::from_slice::<IgnoredAny>(&data).unwrap();
        if let (Ok(data), false) = (serde_json::from_slice::<Value>(&data), name.is_empty()) {
            assert_eq!(data["type"].as_str().unwrap().as_bytes(), name);
        }
    }
    let again = assembled(endpoint, usize::MAX >> 1, &[&stream]);
    assert_ne!(again, Err(AssembleError::Truncated), "it has its end mark");
}
