use proptest::prelude::*;

use super::*;

/// A head as plain values.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    content_type: String,
    server: String,
    /// `None`: until the close; `Some(None)`: chunks.
    length: Result<Option<Option<u64>>, HttpBodyError>,
    rest: Vec<u8>,
}

fn seen((head, rest): (Head, Bytes)) -> Seen {
    let Head { status, content_type, server, framing, .. } = head;
    let length = framing.map(|framing| match framing {
        Framing::Length(length) => Some(Some(length)),
        Framing::Chunked(_) => Some(None),
        Framing::UntilClose => None,
    });
    Seen { status, content_type, server, length, rest: rest.to_vec() }
}

fn read(input: &[u8]) -> Result<Option<Seen>, HttpError> {
    HeadReader::default().feed(input).map(|head| head.map(seen))
}

/// Reads an input that comes in pieces of this length; what comes after the head belongs to the rest.
fn read_in_pieces(input: &[u8], length: usize) -> Result<Option<Seen>, HttpError> {
    let mut reader = HeadReader::default();
    let mut pieces = input.chunks(length);
    while let Some(piece) = pieces.next() {
        if let Some(head) = reader.feed(piece)? {
            let mut seen = seen(head);
            seen.rest.extend(pieces.flatten());
            return Ok(Some(seen));
        }
    }
    Ok(None)
}

fn framed(headers: &str) -> Result<Option<Option<u64>>, HttpError> {
    let head = read(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes())?;
    Ok(head.expect("a whole head").length.expect("no coding"))
}

#[test]
fn a_head_says_what_is_asked_of_it() {
    let head = b"HTTP/1.0 503 Busy\r\nServer: Llama.cpp\r\ncontent-TYPE: Text/HTML; charset=x\r\n\r\nbody";
    let expected = Seen {
        status: 503,
        content_type: "text/html".to_owned(),
        server: "llama.cpp".to_owned(),
        length: Ok(None),
        rest: b"body".to_vec(),
    };
    assert_eq!(read(head), Ok(Some(expected)));
}

#[test]
fn a_body_ends_where_its_head_says() {
    assert_eq!(framed("Content-Length:  12 \r\n"), Ok(Some(Some(12))));
    assert_eq!(framed("Transfer-Encoding: Chunked\r\n"), Ok(Some(None)));
    assert_eq!(framed(""), Ok(None));
    for status in [204, 304] {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 9\r\n\r\n");
        assert_eq!(read(head.as_bytes()).unwrap().unwrap().length, Ok(Some(Some(0))));
    }
}

#[test]
fn a_body_that_may_end_in_two_places_is_refused() {
    for headers in [
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: 1\r\ncontent-length: 1\r\n",
        "content-length: 1, 1\r\n",
        "content-length: +1\r\n",
        "content-length: -1\r\n",
        "content-length: 0x1\r\n",
        "content-length:\r\n",
        "content-length: 18446744073709551616\r\n",
        "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
    ] {
        assert_eq!(framed(headers), Err(HttpError::Garbled), "{headers:?}");
    }
}

#[test]
fn an_encoded_body_is_known_by_its_head() {
    let encoded = |value: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {value}\r\n\r\n");
        read(head.as_bytes()).unwrap().unwrap().length.err()
    };
    assert_eq!(encoded("gzip"), Some(HttpBodyError::Encoded));
    assert_eq!(encoded("identity, br"), Some(HttpBodyError::Encoded));
    assert_eq!(encoded("Identity"), None);
    assert_eq!(encoded(""), None);
}

#[test]
fn answers_that_are_none_yet_are_passed_over_up_to_a_bound() {
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-length: 7\r\n\r\n";
    let expected = read(last.as_bytes());
    assert_eq!(read(format!("{interim}{last}").as_bytes()), expected);
    assert_eq!(read_in_pieces(format!("{interim}{last}").as_bytes(), 1), expected);
    assert_eq!(read(format!("{}{last}", interim.repeat(8)).as_bytes()), expected);
    assert_eq!(read(format!("{}{last}", interim.repeat(9)).as_bytes()), Err(HttpError::Garbled));
    assert_eq!(read(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Err(HttpError::Garbled));
}

#[test]
fn what_is_no_http_is_told_by_its_first_bytes() {
    for input in ["SSH", "\r\n", "\x15\x03\x01", "HTTP/2.0 200", "HTTP/1.1 2x", "HTTP/1.1 099 X\r\n\r\n"] {
        assert_eq!(read(input.as_bytes()), Err(HttpError::Garbled), "{input:?}");
    }
}

#[test]
fn a_head_is_bounded() {
    let head = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes();
    for long in
        [head(&format!("x: {}\r\n", "y".repeat(HEAD))), head(&"x: y\r\n".repeat(HEADERS + 1)), vec![b'H'; 2 * HEAD]]
    {
        assert_eq!(read(&long), Err(HttpError::Garbled));
        assert_eq!(read_in_pieces(&long, 1_000), Err(HttpError::Garbled));
    }
    assert!(matches!(read(&head(&"x: y\r\n".repeat(HEADERS))), Ok(Some(_))));
    assert!(matches!(read_in_pieces(&head(&format!("x: {}\r\n", "y".repeat(HEAD - 99))), 1_000), Ok(Some(_))));
}

proptest! {
    #[test]
    fn a_head_is_the_same_however_it_is_cut(
        interim in 0..3_usize,
        status in 200..600_u16,
        headers in prop::collection::vec("[A-Za-z-]{1,20}: ?[ -~]{0,40}", 0..10),
        length in prop::option::of(0..100_u32),
        body in prop::collection::vec(any::<u8>(), 0..50),
        piece in 1..80_usize,
    ) {
        let mut wire = "HTTP/1.1 102 Processing\r\n\r\n".repeat(interim);
        wire += &format!("HTTP/1.1 {status} Reason\r\n");
        headers.iter().for_each(|header| wire += &format!("{header}\r\n"));
        length.iter().for_each(|length| wire += &format!("content-length: {length}\r\n"));
        let wire = [wire.as_bytes(), b"\r\n", &body].concat();
        let whole = read(&wire);
        prop_assert!(!matches!(whole, Ok(None)));
        prop_assert_eq!(read_in_pieces(&wire, piece), whole);
    }

    #[test]
    fn garbage_is_the_same_garbage_however_it_is_cut(
        start in prop_oneof![Just(""), Just("H"), Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.1 100 X\r\n\r\nHTTP/1.0 ")],
        garbage in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), b'a'..b'e', any::<u8>()], 0..100),
        piece in 1..40_usize,
    ) {
        // A line that has not ended may be garbage already, which is only seen with its end or at once.
        let wire = [start.as_bytes(), &garbage, b"\n"].concat();
        prop_assert_eq!(read_in_pieces(&wire, piece), read(&wire));
    }
}

#[test]
fn only_http_1_1_without_a_close_option_keeps_the_connection() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: not-close\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nconnection: a,close , b\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n", false),
    ] {
        let (read, _) = HeadReader::default().feed(head.as_bytes()).unwrap().unwrap();
        assert_eq!(read.keeps_alive, expected, "{head:?}");
    }
}
