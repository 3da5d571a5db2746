//! What is found in a response: how it ended, what it cost, and what an error says.

use serde_json::Value;

use super::input::Input;
use crate::core::formats::error_body::{ErrorBody, MESSAGE_LIMIT};
use crate::core::formats::translate::error_body;
use crate::core::formats::usage::{BackendFault, Ending, LongBodyScan, ResponseScan, Tally};
use crate::messages::endpoint::Endpoint;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let endpoint = input.one_of(&Endpoint::ALL);
    // So small that events are too long, or as in use.
    let limit = input.one_of(&[None, Some(9), Some(40), Some(200)]);
    let cut = input.cut();
    let body = input.rest();
    let pieces = cut.pieces(body);
    let whole = scanned(endpoint, limit, &[body]);
    assert_eq!(scanned(endpoint, limit, &pieces), whole);
    has_a_label_for_anyone(&whole);
    assert!(limit.is_some() || whole != Ending::Unread, "no event of this input is too long");
    reads_a_long_body(endpoint, body, &pieces);
    reads_an_error(body);
}

fn scanned(endpoint: Endpoint, limit: Option<usize>, pieces: &[&[u8]]) -> Ending {
    let mut scan = limit.map_or_else(|| ResponseScan::new(endpoint), |limit| ResponseScan::within(endpoint, limit));
    let mut was_over = false;
    for piece in pieces {
        scan.feed(piece);
        assert!(scan.is_over() || !was_over, "an end stays an end");
        was_over = scan.is_over();
    }
    let has_failed = scan.has_failed();
    let ending = scan.finish();
    assert!(!has_failed || matches!(ending, Ending::Failed(_)));
    assert!(!was_over || matches!(ending, Ending::Failed(_) | Ending::Complete { .. }));
    ending
}

/// A label holds nothing of a prompt.
fn has_a_label_for_anyone(ending: &Ending) {
    let Ending::Failed(BackendFault { label: Some(label) }) = ending else { return };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    assert!((1..=64).contains(&label.len()) && label.bytes().all(is_allowed));
}

/// A body that is too long to be held is read in any pieces. It is complete if it is complete when it is held.
fn reads_a_long_body(endpoint: Endpoint, body: &[u8], pieces: &[&[u8]]) {
    let long = |pieces: &[&[u8]]| {
        let mut scan = LongBodyScan::new(endpoint);
        pieces.iter().for_each(|piece| scan.feed(piece));
        scan.finish()
    };
    let whole = long(&[body]);
    assert_eq!(long(pieces), whole);
    has_a_label_for_anyone(&whole);
    let mut tally = Tally::new(endpoint);
    tally.take_whole(body);
    if matches!(tally.ending(), Ending::Complete { .. }) {
        assert_ne!(whole, Ending::Truncated);
    }
}

fn reads_an_error(body: &[u8]) {
    let error = ErrorBody::read(body);
    if let Some(message) = error.message() {
        assert!(message.chars().count() <= MESSAGE_LIMIT && !message.contains(|c: char| c.is_control() && c != '\n'));
    }
    has_a_label_for_anyone(&Ending::Failed(BackendFault::from_body(body)));
    let translated: Value = serde_json::from_slice(&error_body(error.status().unwrap_or(500), body)).unwrap();
    assert!(translated["error"]["message"].is_string() && translated["error"]["type"].is_string());
}
