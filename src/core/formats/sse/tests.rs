//! The splitter, compared with a naive implementation of the standard, and with hostile bodies.

use proptest::prelude::*;

use super::{EVENT_LIMIT, Event, Part, START, SseSplitter, standard};

type Owned = (Vec<u8>, Vec<u8>);

fn owned(event: Event<'_>) -> Owned {
    (event.name.to_vec(), event.data.to_vec())
}

fn split(limit: usize, pieces: &[&[u8]]) -> (Vec<Owned>, u64) {
    let mut splitter = SseSplitter::new(limit);
    let mut events = Vec::new();
    for piece in pieces {
        splitter.feed(piece, |event| events.push(owned(event)));
    }
    splitter.finish(|event| events.push(owned(event)));
    (events, splitter.oversized())
}

fn data_of(body: &str) -> Vec<String> {
    let (events, _) = split(EVENT_LIMIT, &[body.as_bytes()]);
    events.into_iter().map(|(_, data)| String::from_utf8(data).unwrap()).collect()
}

#[test]
fn every_kind_of_line_end_ends_a_line() {
    for end in ["\n", "\r", "\r\n"] {
        let body = format!("event: a{end}data: one{end}data: two{end}{end}data: three{end}{end}");
        let (events, _) = split(EVENT_LIMIT, &[body.as_bytes()]);
        assert_eq!(events, [(b"a".to_vec(), b"one\ntwo".to_vec()), (vec![], b"three".to_vec())], "{end:?}");
    }
}

#[test]
fn a_line_end_of_two_bytes_may_come_in_two_pieces() {
    let (events, _) = split(EVENT_LIMIT, &[b"data: a\r", b"", b"\ndata: b\r", b"\n\r", b"\n", b"data: c\r\n\r\n"]);
    assert_eq!(events, [(vec![], b"a\nb".to_vec()), (vec![], b"c".to_vec())]);
}

#[test]
fn an_event_that_ends_in_a_cr_does_not_wait_for_the_next_byte() {
    let mut splitter = SseSplitter::new(EVENT_LIMIT);
    let mut seen = 0;
    splitter.feed(b"data: a\r\r", |_| seen += 1);
    assert_eq!(seen, 1);
}

#[test]
fn one_space_after_the_colon_is_not_a_part_of_the_value() {
    assert_eq!(data_of("data:x\n\ndata: x\n\ndata:  x\n\ndata\n\ndata:\n\n"), ["x", "x", " x", "", ""]);
}

#[test]
fn comments_and_unknown_fields_and_events_without_data_deliver_nothing() {
    assert_eq!(data_of(":\n\n: ping\n\nevent: ping\n\nid: 4\nretry: 1\ndatum: x\n\nx\n\n"), Vec::<String>::new());
}

#[test]
fn a_byte_order_mark_counts_only_at_the_start() {
    assert_eq!(data_of("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a"]);
    let (events, _) = split(EVENT_LIMIT, &[b"\xEF", b"\xBB", b"\xBFda", b"ta: a\n\n"]);
    assert_eq!(events.len(), 1);
}

#[test]
fn the_end_of_the_body_ends_the_last_event() {
    assert_eq!(data_of("data: a\n\ndata: [DONE]"), ["a", "[DONE]"]);
    assert_eq!(data_of("data: a\n\ndata: [DONE]\n"), ["a", "[DONE]"]);
}

#[test]
fn a_single_line_in_one_piece_is_not_copied() {
    let body = b": c\n\nevent: e\ndata: whole\n\n";
    let range = body.as_ptr_range();
    let mut seen = 0;
    SseSplitter::new(EVENT_LIMIT).feed(body, |event| {
        assert!(range.contains(&event.data.as_ptr()));
        seen += 1;
    });
    assert_eq!(seen, 1);
}

#[test]
fn an_event_that_is_too_long_is_dropped_and_counted_and_the_next_one_is_delivered() {
    for (body, oversized) in [
        ("data: 0123456789\n\n", 1),
        ("data: 012345\ndata: 678901\n\n", 1),
        ("data: 0123\nevent: 456\ndata: 78901234567\ndata: x\nevent: y\n\n", 1),
        ("event: 01234\ndata: 567890\ndata: 1\n\n", 1),
        ("data: 567890\ndata: 1\nevent: 01234\n\n", 1),
        ("x: 0123456789\ndata: a\n\n", 1),
        (": 01234567890\n\n", 0),
    ] {
        let body = format!("{body}data: next\n\n");
        for at in 0..body.len() {
            let (left, right) = body.as_bytes().split_at(at);
            let (events, count) = split(12, &[left, right]);
            assert_eq!((events.len(), count), (1, oversized), "{body:?} split at {at}");
            assert_eq!(events[0].1, b"next");
        }
    }
}

#[test]
fn an_endless_line_costs_no_memory() {
    let piece = vec![b'x'; 1 << 20];
    for start in [&b"data: "[..], b": ", b""] {
        let mut splitter = SseSplitter::new(EVENT_LIMIT);
        splitter.feed(start, |_| {});
        for _ in 0..50 {
            splitter.feed(&piece, |_| panic!("no event has ended"));
            assert!(splitter.line.capacity() + splitter.data.capacity() <= 4 * EVENT_LIMIT);
        }
        let mut names = Vec::new();
        splitter.feed(b"\n\nevent: after\ndata: x\n\n", |event| names.push(event.name.to_vec()));
        assert_eq!(names, [b"after"]);
    }
}

#[test]
fn the_end_of_a_line_that_is_too_long_is_not_kept_either() {
    let mut splitter = SseSplitter::new(16);
    splitter.feed(b"data: ", |_| {});
    splitter.feed(format!("{}\n\n", "x".repeat(1 << 20)).as_bytes(), |_| panic!("the event is too long"));
    assert!(splitter.line.capacity() < 64);
    assert_eq!(splitter.oversized(), 1);
}

#[test]
fn an_endless_line_in_small_pieces_takes_linear_time() {
    let mut splitter = SseSplitter::new(EVENT_LIMIT);
    for _ in 0..500_000 {
        splitter.feed(b"0123456789", |_| panic!("no event has ended"));
    }
    assert_eq!(splitter.oversized(), 1);
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    const BITS: &[&str] =
        &["data: ", "data:", "data", "event: ", "event:", ":", " ", "x", "é", "\u{feff}", "\n", "\n\n", "\r", "\r\n"];
    prop::collection::vec(prop::sample::select(BITS), 0..40).prop_map(|bits| bits.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_cut_gives_the_events_of_the_standard(body in body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &body[ends[0]..ends[1]]).collect();
        prop_assert_eq!(split(EVENT_LIMIT, &pieces), (standard::events(&body), 0));
    }

    #[test]
    fn any_cut_drops_the_same_events(body in body(), limit in 0..16_usize, at in any::<prop::sample::Index>()) {
        let (left, right) = body.split_at(at.index(body.len() + 1));
        prop_assert_eq!(split(limit, &[left, right]), split(limit, &[&body]));
    }

    #[test]
    fn any_cut_gives_the_same_parts(
        lines in prop::collection::vec(long_line(), 0..8),
        limit in START..24,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let body = lines.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &body.as_bytes()[ends[0]..ends[1]]).collect();
        let whole = parts(limit, &[body.as_bytes()]);
        prop_assert_eq!(parts(limit, &pieces), whole.clone());
        // A long event with only data lines is delivered whole, except white space, as in the standard.
        let events = standard::events(body.as_bytes());
        if lines.iter().all(|line| line.starts_with("data: ") || line.trim().is_empty()) {
            let squeezed = |data: &[u8]| data.iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<_>>();
            let ours: Vec<_> = whole.iter().map(|(_, _, data)| squeezed(data)).collect();
            let theirs: Vec<_> = events.iter().map(|(_, data)| squeezed(data)).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}

/// A line of an event stream with its end, about as long as the limits in these tests.
fn long_line() -> impl Strategy<Value = String> {
    let start = prop::sample::select(
        &["data: ", "data: ", "data: ", "data:", "data", "event: ", ": ", "da", "\u{FEFF}data: "][..],
    );
    let end = prop::sample::select(&["\n", "\r\n", "\r", "\n\n", "\r\r"][..]);
    prop_oneof![
        4 => (start, "[a-c]{0,24}", end).prop_map(|(start, text, end)| [start, &text, end].concat()),
        1 => Just("\n".to_owned()),
    ]
}

/// The events of a body, and for those that are too long the joined pieces: whether it was too long, its name and its data.
fn parts(limit: usize, pieces: &[&[u8]]) -> Vec<(bool, Vec<u8>, Vec<u8>)> {
    let mut splitter = SseSplitter::new(limit);
    let (mut parts, mut long) = (Vec::new(), Vec::new());
    let mut take = |part: Part<'_>| match part {
        Part::Event(Event { name, data, .. }) => parts.push((false, name.to_vec(), data.to_vec())),
        Part::Long(piece) => long.extend_from_slice(piece),
        Part::LongEnd(name) => parts.push((true, name.to_vec(), std::mem::take(&mut long))),
    };
    for piece in pieces {
        splitter.feed_parts(piece, &mut take);
    }
    splitter.finish_parts(&mut take);
    parts
}
