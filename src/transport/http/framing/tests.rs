use proptest::prelude::*;

use super::*;

/// The data of an input that comes in these pieces, and what is behind it.
fn decoded(mut framing: Framing, pieces: &[&[u8]]) -> (Vec<u8>, Progress) {
    let mut all = Vec::new();
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let mut at = 0;
        loop {
            let Decoded { data, read, progress } = framing.decode(&mut buffer[at..]);
            all.extend_from_slice(&buffer[at..][data]);
            at += read;
            if progress != Progress::More {
                return (all, progress);
            }
            if at == buffer.len() {
                break;
            }
        }
    }
    (all, Progress::More)
}

fn chunked(input: &[u8]) -> (Vec<u8>, Progress) {
    decoded(Framing::Chunked(Chunked::new()), &[input])
}

fn text(input: &str) -> (String, Progress) {
    let (data, progress) = chunked(input.as_bytes());
    (String::from_utf8(data).unwrap(), progress)
}

#[test]
fn chunks_with_all_that_the_coding_allows_are_data() {
    for input in [
        "2\r\nok\r\n0\r\n\r\n",
        "1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        "0002  \r\nok\r\n000\r\n\r\n",
        "2;a=\"b c\";d\r\nok\r\n0;e\r\n\r\n",
        "2 ; a\r\nok\r\n0\r\nx: y\r\nz: \tw\r\n\r\n",
    ] {
        assert_eq!(text(input), ("ok".to_owned(), Progress::End), "{input:?}");
    }
}

#[test]
fn a_size_is_read_in_either_case_and_up_to_64_bits() {
    assert_eq!(text(&format!("1a\r\n{0}\r\n1A\r\n{0}", "x".repeat(26))), ("x".repeat(52), Progress::More));
    assert_eq!(text("ffffffffffffffff\r\nrest"), ("rest".to_owned(), Progress::More));
    assert_eq!(text("00000000000000001\r\nx"), (String::new(), Progress::Broken));
}

#[test]
fn what_is_no_chunk_is_broken_and_what_came_before_it_is_data() {
    for input in [
        "zz\r\n",
        "\r\n",
        ";a\r\n",
        " 2\r\nok\r\n",
        "0x2\r\n",
        "-2\r\n",
        "+2\r\n",
        "2 2\r\n",
        "2\nok",
        "2\r\r\n",
        "2\rok",
        "2;a\nok",
        "2;\0\r\n",
        "0\r\n\n",
        "0\r\nx: y\n\r\n",
        "0\r\nx\0: y\r\n",
        "0\r\n\rx",
    ] {
        assert_eq!(text(input), (String::new(), Progress::Broken), "{input:?}");
    }
    for input in ["2\r\nokk", "2\r\nok\n", "2\r\nok\rx", "2\r\nok\r\n\r\n"] {
        assert_eq!(text(input), ("ok".to_owned(), Progress::Broken), "{input:?}");
    }
}

#[test]
fn what_is_between_data_is_bounded() {
    let long = "x".repeat(9_000);
    let trailers = "x: y\r\n".repeat(2_000);
    for input in
        [format!("2;{long}"), format!("2{}", " ".repeat(9_000)), format!("0\r\n{long}"), format!("0\r\n{trailers}")]
    {
        assert_eq!(text(&input).1, Progress::Broken);
    }
    let many = format!("1;{0}\r\nx\r\n", "e".repeat(6_000)).repeat(10);
    assert_eq!(text(&many), ("x".repeat(10), Progress::More));
}

#[test]
fn a_length_takes_no_more_than_it_says() {
    assert_eq!(decoded(Framing::Length(3), &[b"ab", b"cd"]), (b"abc".to_vec(), Progress::Surplus));
    assert_eq!(decoded(Framing::Length(3), &[b"ab", b"c"]), (b"abc".to_vec(), Progress::End));
    assert_eq!(text("2\r\nok\r\n0\r\n\r\nsurplus"), ("ok".to_owned(), Progress::Surplus));
    assert_eq!(decoded(Framing::Length(u64::MAX), &[b"ab"]), (b"ab".to_vec(), Progress::More));
    assert_eq!(Framing::Length(1).close(), Progress::Broken);
    assert_eq!(Framing::Chunked(Chunked::new()).close(), Progress::Broken);
    assert_eq!(Framing::UntilClose.close(), Progress::End);
}

/// The pieces of an input that is cut at these places.
fn cut<'a>(input: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places {
        pieces.push(&input[from..place]);
        from = place;
    }
    pieces.push(&input[from..]);
    pieces
}

fn encoded() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (prop::collection::vec(any::<u8>(), 1..300), "( {0,3})(;[a-z=\" ]{0,20})?");
    (prop::collection::vec(chunk, 0..20), "([a-z]{1,9}: [a-z]{0,9}\r\n){0,3}").prop_map(|(chunks, trailers)| {
        let (mut wire, mut data) = (Vec::new(), Vec::new());
        for (content, extension) in chunks {
            wire.extend_from_slice(format!("{:x}{extension}\r\n", content.len()).as_bytes());
            wire.extend_from_slice(&content);
            wire.extend_from_slice(b"\r\n");
            data.extend_from_slice(&content);
        }
        wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        (wire, data)
    })
}

proptest! {
    #[test]
    fn chunks_are_the_same_data_however_they_are_cut(
        (wire, data) in encoded(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let decoded = decoded(Framing::Chunked(Chunked::new()), &cut(&wire, &cuts));
        prop_assert_eq!(decoded, (data, Progress::End));
    }

    #[test]
    fn no_end_is_seen_before_the_last_byte((wire, data) in encoded(), at in any::<prop::sample::Index>()) {
        let (got, progress) = chunked(&wire[..at.index(wire.len())]);
        prop_assert_eq!(progress, Progress::More);
        prop_assert!(data.starts_with(&got));
    }

    #[test]
    fn garbage_is_the_same_garbage_however_it_is_cut(
        wire in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b';'), b'0'..b'4', any::<u8>()], 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let (data, progress) = chunked(&wire);
        prop_assert!(data.len() <= wire.len());
        // A cut right behind the end of a body hides what follows it, and only that.
        let pieces = cut(&wire, &cuts);
        let mut ends = pieces.iter().scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        });
        let is_hidden = ends.any(|end| chunked(&wire[..end]).1 == Progress::End);
        let expected = (data, if is_hidden { Progress::End } else { progress });
        prop_assert_eq!(decoded(Framing::Chunked(Chunked::new()), &pieces), expected);
    }
}
