//! The splitter of events, compared with the algorithm of the standard.

use super::input::Input;
use crate::core::formats::sse::{Event, Part, SseSplitter};

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    // Below 9 bytes the data of a line that is too long may be missing.
    let limit = input.one_of(&[usize::MAX, 9, 12, 24, 100]);
    let cut = input.cut();
    let body = input.rest();
    let whole = parts(limit, &[body]);
    assert_eq!(parts(limit, &cut.pieces(body)), whole);
    assert!(whole.0.iter().map(|part| part.name.len() + part.data.len()).sum::<usize>() <= 2 * body.len() + 2);
    let events: Vec<_> = whole.0.into_iter().filter(|part| !part.is_long).collect();
    assert!(events.iter().all(|event| event.name.len() + event.data.len() <= limit));
    let expected = by_the_book(body);
    if whole.1 == 0 {
        let found: Vec<_> = events.into_iter().map(|event| (event.name, event.data)).collect();
        assert_eq!(found, expected);
    } else {
        // The events that are short enough are among those of the standard, in their order.
        let mut expected = expected.into_iter();
        for event in events {
            assert!(expected.any(|theirs| theirs == (event.name.clone(), event.data.clone())));
        }
    }
}

#[derive(Debug, PartialEq)]
struct Owned {
    is_long: bool,
    follows_gap: bool,
    name: Vec<u8>,
    data: Vec<u8>,
}

/// The events of a body, those that are too long with their pieces joined, and how many these are.
fn parts(limit: usize, pieces: &[&[u8]]) -> (Vec<Owned>, u64) {
    let mut splitter = SseSplitter::new(limit);
    let (mut parts, mut long) = (Vec::new(), Vec::new());
    let mut take = |part: Part<'_>| match part {
        Part::Event(Event { name, data, follows_gap }) => {
            parts.push(Owned { is_long: false, follows_gap, name: name.to_vec(), data: data.to_vec() });
        }
        Part::Long(piece) => long.extend_from_slice(piece),
        Part::LongEnd(name) => {
            let data = std::mem::take(&mut long);
            parts.push(Owned { is_long: true, follows_gap: true, name: name.to_vec(), data });
        }
    };
    pieces.iter().for_each(|piece| splitter.feed_parts(piece, &mut take));
    splitter.finish_parts(&mut take);
    (parts, splitter.oversized())
}

/// The standard's algorithm over the whole body at once, without a bound, and with an event at the end that has no blank line.
pub(super) fn by_the_book(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let mut lines = vec![Vec::new()];
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(Vec::new());
            }
            b'\n' => lines.push(Vec::new()),
            byte => lines.last_mut().unwrap().push(byte),
        }
    }
    lines.push(Vec::new());
    let (mut events, mut name, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':');
        let (field, value) = match colon {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (&line[..], &b""[..]),
        };
        match field {
            b"" if colon.is_none() => {
                if data.pop().is_some() {
                    events.push((name.clone(), data.clone()));
                }
                name.clear();
                data.clear();
            }
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            b"event" => name = value.to_vec(),
            _ => {}
        }
    }
    events
}
