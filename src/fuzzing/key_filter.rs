//! A backend's API key in its stream, in every spelling that is searched for.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use memchr::memmem;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::input::Input;
use crate::core::formats::key_filter::KeyFilter;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::usage::{Ending, ResponseScan};
use crate::messages::endpoint::Endpoint;
use crate::messages::secret::Secret;

/// One that no model knows, and one that any text may have.
const KEYS: [&str; 2] = ["sk-CANARY/0?x+\"y~\\end", "lm-studio"];
/// In an input, this byte and those after it stand for the spellings of the key.
const FIRST_SPELLING: u8 = 0xf0;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let key = input.one_of(&KEYS);
    let cut = input.cut();
    let text = input.rest();
    is_found(key, text);
    let spellings = spellings(key);
    let of_byte = |byte: &u8| match byte.checked_sub(FIRST_SPELLING).and_then(|which| spellings.get(usize::from(which))) {
        Some(spelling) => spelling.clone(),
        None => vec![*byte],
    };
    let stream: Vec<u8> = text.iter().flat_map(of_byte).collect();
    let trace = Arc::new(KeyTrace::of(&Secret::new(key)).unwrap());
    let whole = sent(&trace, &[&stream]);
    assert_eq!(sent(&trace, &cut.pieces(&stream)), whole);
    let (out, has_cut, ending) = whole;
    assert!(stream.starts_with(&out), "what is sent is the start of the stream");
    if trace.is_rare() {
        assert!(!trace.is_in(&out) && memmem::find(&out, key.as_bytes()).is_none(), "the key is not sent");
    }
    if !trace.is_in(&stream) {
        assert!(!has_cut);
        assert!(out == stream || !matches!(ending, Ending::Complete { .. }), "nothing else is held back");
    }
}

/// What is sent of a stream, whether a part of the answer was not, and how the stream ended.
fn sent(key: &Arc<KeyTrace>, pieces: &[&[u8]]) -> (Vec<u8>, bool, Ending) {
    let (mut filter, mut scan) = (KeyFilter::new(Arc::clone(key)), ResponseScan::new(Endpoint::ChatCompletions));
    let mut out = Vec::new();
    for piece in pieces {
        let may_be_error = |piece: &[u8]| {
            let was_over = scan.is_over();
            scan.feed(piece);
            was_over || scan.has_failed()
        };
        filter.feed(piece, may_be_error, |clean| out.extend_from_slice(clean));
    }
    let has_cut = filter.has_cut_answer();
    let ending = scan.finish();
    filter.finish(matches!(ending, Ending::Complete { .. }), |clean| out.extend_from_slice(clean));
    (out, has_cut, ending)
}

/// The spellings of a key, and its halves.
fn spellings(key: &str) -> Vec<Vec<u8>> {
    let json = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let (left, right) = key.split_at(key.len() / 2);
    [
        key.to_owned(),
        json(key),
        json(&json(key)),
        json(key).replace('/', "\\/"),
        percent_encode(key.as_bytes(), NON_ALPHANUMERIC).to_string(),
        STANDARD.encode(key),
        STANDARD.encode(format!("Bearer {key}")),
        URL_SAFE.encode(format!("a{key}:")),
        key.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
        left.to_owned(),
        right.to_owned(),
        "data: {\"error\":\"".to_owned(),
        "data: {\"choices\":[{\"delta\":{\"content\":\"".to_owned(),
        "\"}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

/// A key made of the input is found in a text, in each spelling.
fn is_found(within: &str, text: &[u8]) {
    let key: String = text.iter().filter(|byte| byte.is_ascii_graphic()).take(40).map(|byte| char::from(*byte)).collect();
    let Some(trace) = KeyTrace::of(&Secret::new(key.as_str())) else {
        assert!(key.len() < 4);
        return;
    };
    // In base64, a short key has no part of its own.
    let spelled = spellings(&key).into_iter().take(if key.len() < 12 { 5 } else { 9 });
    for spelling in spelled.skip(usize::from(within == KEYS[1]) * 2) {
        assert!(trace.is_in(&[b"{\"error\":\"", &spelling[..], b" \"}"].concat()), "a spelling is found");
    }
}
