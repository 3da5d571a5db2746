//! What a client of the coordinator asks for, and what it gets of an agent's stream.

use serde_json::Value;

use super::input::{Cut, Input};
use crate::coordinator::client_request::{RequestError, ResponseKind, read};
use crate::coordinator::usage_filter::UsageFilter;
use crate::messages::endpoint::Endpoint;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let endpoint = input.one_of(&Endpoint::ALL);
    let cut = input.cut();
    let text = input.rest();
    is_read(text, endpoint);
    is_filtered(text, cut);
}

/// What is read is what a parser finds.
fn is_read(body: &[u8], endpoint: Endpoint) {
    let found = read(body, endpoint);
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        // The parser of the comparison takes less depth, no half of a surrogate pair, and no number out of its range.
        return;
    };
    match found {
        Ok(info) => {
            assert_eq!(value["model"].as_str(), Some(info.model.as_str()));
            assert!((1..=512).contains(&info.model.as_str().len()));
            let streams = value["stream"].as_bool().unwrap_or(false) && endpoint != Endpoint::Embeddings;
            assert_eq!(info.response != ResponseKind::Whole, streams);
            let has_usage = value["stream_options"]["include_usage"].as_bool().unwrap_or(false);
            assert_eq!(info.response == ResponseKind::StreamWithUsage, streams && has_usage);
        }
        Err(RequestError::NoModel) => assert!(value["model"].is_null()),
        Err(RequestError::NotJson | RequestError::TooDeep) => panic!("it is JSON"),
        Err(_) => {}
    }
}

/// Only whole events with usage are left out, and the same in any pieces.
fn is_filtered(stream: &[u8], cut: Cut) {
    let filtered = |pieces: &[&[u8]]| {
        let mut filter = UsageFilter::default();
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| out.extend(filter.feed(piece)));
        out.extend(filter.finish());
        out
    };
    let whole = filtered(&[stream]);
    assert_eq!(filtered(&cut.pieces(stream)), whole);
    if memchr::memmem::find(stream, b"\"usage\"").is_none() {
        assert_eq!(whole, stream);
    }
    assert!(whole.len() <= stream.len());
    assert_eq!(filtered(&[&whole]), whole, "none is left");
}
