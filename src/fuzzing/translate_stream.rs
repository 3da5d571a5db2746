//! Streams of chat completions that become Anthropic's events.

use std::sync::Arc;

use bytes::BytesMut;
use memchr::memmem;
use serde::de::IgnoredAny;

use super::input::{Cut, Input};
use crate::core::formats::sse::standard;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::translate::tests::grammar;
use crate::core::formats::translate::{MessageEvents, Thinking};
use crate::core::formats::usage::Ending;
use crate::messages::ids::ModelId;
use crate::messages::secret::Secret;

/// Bytes that come out for each one that comes in, at the most, and for a stream as such.
const GROWTH: usize = 24;
const FIXED: usize = 2_000;
const KEY: &str = "sk-CANARY/0?x+\"y~end";

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let thinking = input.one_of(&[Thinking::Shown, Thinking::Hidden]);
    let is_whole = input.byte() % 4 == 3;
    let cut = input.cut();
    let body = input.rest();
    let key = KeyTrace::of(&Secret::new(KEY)).map(Arc::new);
    let model = ModelId::from("m");
    let translation = || MessageEvents::new(&model, thinking).without_key(key.clone());
    let mut out = BytesMut::new();
    let mut whole = translation();
    if is_whole {
        whole.take_whole(body, &mut out);
    } else {
        whole.feed(body, &mut out);
    }
    let ending = whole.finish(&mut out);
    assert!(out.len() <= GROWTH * body.len() + FIXED, "what comes out is bounded");
    // Half a surrogate pair comes through as the backend spelled it, and the parser of the comparison does not take it.
    if memmem::find(&out, b"\\ud").is_none() && memmem::find(&out, b"\\uD").is_none() {
        let events = grammar::events(&out);
        grammar::check(&events, &ending);
        has_no_key(&events, key.as_deref());
    }
    for (_, data) in standard::events(&out) {
        serde_json::from_slice::<IgnoredAny>(&data).unwrap();
    }
    if !is_whole {
        does_not_depend_on_the_pieces(translation(), body, cut, (out, ending));
    }
}

fn has_no_key(events: &[grammar::Event], key: Option<&KeyTrace>) {
    let mut errors = events.iter().filter(|(name, _)| name == "error");
    let has_key = |text: String| key.is_some_and(|key| key.is_in(text.as_bytes()));
    assert!(!errors.any(|(_, data)| has_key(data.to_string())), "no error has the key");
}

fn does_not_depend_on_the_pieces(mut events: MessageEvents, body: &[u8], cut: Cut, whole: (BytesMut, Ending)) {
    let mut out = BytesMut::new();
    cut.pieces(body).iter().for_each(|piece| events.feed(piece, &mut out));
    let ending = events.finish(&mut out);
    assert_eq!((out, ending), whole);
}
