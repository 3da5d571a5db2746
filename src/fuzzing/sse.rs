//! The splitter of events, compared with the algorithm of the standard.

use super::input::Input;
use crate::core::formats::sse::{Event, Part, SseSplitter, standard};

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
    let expected = standard::events(body);
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
