use proptest::prelude::*;

use super::*;
use crate::messages::secret::Secret;

const KEY: &str = "sk-CANARY/0?x+\"y~end";

fn filter(key: &str) -> KeyFilter {
    KeyFilter::new(Arc::new(KeyTrace::of(&Secret::new(key)).unwrap()))
}

fn has(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// The bytes of a stream in these pieces that are sent, if the event with `"error"` and all following bytes are suspect,
/// and whether the filter removed a part of the answer.
fn sent(key: &str, pieces: &[&[u8]], is_complete: bool) -> (Vec<u8>, bool) {
    let mut filter = filter(key);
    let (mut read, mut out) = (Vec::new(), Vec::new());
    for piece in pieces {
        let may_be_error = |piece: &[u8]| {
            read.extend_from_slice(piece);
            has(&read, b"\"error\"")
        };
        filter.feed(piece, may_be_error, |clean| out.extend_from_slice(clean));
    }
    assert_eq!(read, pieces.concat(), "all of it is read");
    let has_cut_answer = filter.has_cut_answer();
    filter.finish(is_complete, |clean| out.extend_from_slice(clean));
    (out, has_cut_answer)
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn an_error_that_contains_the_key_is_withheld_with_all_that_follows_however_it_is_cut() {
    let spelled = [KEY.to_owned(), json(KEY), json(KEY).replace('/', "\\/"), json(&json(KEY))];
    for (spelled, line_end) in spelled.iter().flat_map(|spelled| ["\n", "\r\n", "\r"].map(|end| (spelled, end))) {
        let answer = format!("data: {{\"a\":1}}{line_end}{line_end}");
        let stream =
            format!("{answer}id: {spelled}{line_end}data: {{\"error\":\"{spelled}\"}}{line_end}{line_end}more");
        for at in 0..=stream.len() {
            let (left, right) = stream.as_bytes().split_at(at);
            let (out, _) = sent(KEY, &[left, right], false);
            assert_eq!(String::from_utf8(out).unwrap(), answer, "cut at {at}");
            let (out, _) = sent(KEY, &[left], false);
            assert!(answer.as_bytes().starts_with(&out), "cut off at {at}");
        }
    }
}

#[test]
fn an_event_after_an_error_is_searched_too() {
    let stream = format!("data: {{\"error\":1}}\n\n: {KEY}\n\n");
    assert_eq!(sent(KEY, &[stream.as_bytes()], false).0, b"data: {\"error\":1}\n\n");
}

#[test]
fn an_event_is_sent_as_soon_as_it_is_complete() {
    for line_end in ["\n", "\r\n", "\r"] {
        let event = format!("event: x{line_end}data: 1{line_end}{line_end}");
        let (mut filter, mut out) = (filter(KEY), Vec::new());
        for _ in 0..3 {
            for byte in event.bytes() {
                filter.feed(&[byte], |_| false, |clean| out.extend_from_slice(clean));
            }
            assert_eq!(out, event.as_bytes());
            out.clear();
        }
    }
}

#[test]
fn an_unfinished_event_is_sent_only_after_a_complete_answer_and_without_the_key() {
    let stream = "data: 1\n\ndata: 2";
    assert_eq!(sent(KEY, &[stream.as_bytes()], true).0, stream.as_bytes());
    assert_eq!(sent(KEY, &[stream.as_bytes()], false).0, b"data: 1\n\n");
    assert_eq!(sent(KEY, &[format!("data: 1\n\n: {KEY}").as_bytes()], true).0, b"data: 1\n\n");
}

/// An event longer than the held part, with a text in it that begins at this offset.
fn long_event(at: usize, text: &str) -> Vec<u8> {
    let mut event = vec![b'x'; 3 * HELD];
    event.splice(at..at + text.len(), text.bytes());
    event.extend_from_slice(b"\n\n");
    event
}

#[test]
fn a_long_event_that_contains_the_key_is_withheld_from_before_it_on_and_cuts_the_answer() {
    let searched = HELD - 16 * KEY.len();
    for at in [0, searched - 9, searched, HELD - 9, HELD, 2 * searched - 3, 3 * HELD - 40] {
        let event = long_event(at, KEY);
        let whole = sent(KEY, &[&event], true);
        assert!(whole.0.len() <= at && whole.1, "key at {at}");
        for size in [HELD / 3, HELD - 1, HELD, HELD + 1] {
            let pieces: Vec<_> = event.chunks(size).collect();
            assert_eq!(sent(KEY, &pieces, true), whole, "key at {at}, pieces of {size}");
        }
    }
}

#[test]
fn an_event_that_is_not_an_error_is_withheld_if_it_contains_a_long_key() {
    for event in [format!(": {KEY}\n\n"), format!("data: {{\"detail\":{}}}\n\n", json(KEY)), format!("data: {KEY}\n\n")]
    {
        let stream = format!("data: 1\n\n{event}data: 2\n\n");
        assert_eq!(sent(KEY, &[stream.as_bytes()], true), (b"data: 1\n\n".to_vec(), true));
    }
}

#[test]
fn a_placeholder_for_a_key_may_occur_in_an_answer_and_not_in_an_error() {
    for event in [b"data: lm-studio\n\n".to_vec(), long_event(HELD, "lm-studio")] {
        assert_eq!(sent("lm-studio", &[&event], true), (event, false));
    }
    assert_eq!(sent("lm-studio", &[b"data: {\"error\":\"lm-studio\"}\n\n"], true), (Vec::new(), false));
}

#[test]
fn held_bytes_are_bounded_and_the_buffer_is_released() {
    let mut filter = filter(KEY);
    for _ in 0..40 {
        filter.feed(&vec![b'x'; HELD / 10], |_| false, |_| {});
        assert!(filter.held.len() <= HELD + HELD / 10);
    }
    filter.feed(b"\n\n", |_| false, |_| {});
    assert!(filter.held.capacity() <= KEPT_BUFFER);
}

proptest! {
    #[test]
    fn the_sent_bytes_do_not_depend_on_how_the_stream_is_cut(
        parts in prop::collection::vec(
            prop::sample::select(&["\n", "\n\n", "\r\n\r\n", "\r", "data: ", "sk-CA", "NARY", "\"error\"", "\\/", "x"][..]),
            0..24,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        is_complete in any::<bool>(),
    ) {
        let key = "sk-CANARY";
        let stream = parts.concat().into_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
        let whole = sent(key, &[&stream], is_complete);
        prop_assert_eq!(sent(key, &pieces, is_complete), whole.clone());
        if !has(&stream, b"sk-CANARY") && is_complete {
            prop_assert_eq!(whole.0, stream);
        }
    }
}
