use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn reader(role: Role) -> FrameReader {
    FrameReader::new(role, LIMIT, BytesMut::new())
}

fn encoded(role: Role, frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&mut out, role, frame);
    out
}

/// Feeds bytes in pieces that end at these places, as a stream would, and takes all frames.
fn read(reader: &mut FrameReader, bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, Violation> {
    let mut frames = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        reader.space().extend_from_slice(&bytes[from..cut]);
        from = cut;
        while let Some(frame) = reader.pop()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

/// The violation that these bytes are to a client.
fn violation(bytes: &[u8]) -> Violation {
    read(&mut reader(Role::Client), bytes, &[]).expect_err("a violation")
}

fn payload(len: usize) -> Bytes {
    (0..len).map(|index| (index * 7 % 251) as u8).collect()
}

#[test]
fn every_length_around_a_border_comes_back_in_both_roles() {
    for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        for len in [0, 1, 124, 125, 126, 127, 4095, 4096, 65_535, 65_536, 65_537, LIMIT] {
            for frame in [Frame::Text(payload(len)), Frame::Binary(payload(len))] {
                let bytes = encoded(sender, &frame);
                let frames = read(&mut reader(receiver), &bytes, &[]).unwrap();
                assert!(frames == [frame], "{len} bytes from {sender:?}");
            }
        }
    }
}

#[test]
fn lengths_are_written_in_their_shortest_form() {
    for (len, header) in [(125, &[0x81, 125][..]), (126, &[0x81, 126, 0, 126]), (65_535, &[0x81, 126, 255, 255])] {
        assert!(encoded(Role::Server, &Frame::Text(payload(len))).starts_with(header));
    }
    let large = encoded(Role::Server, &Frame::Text(payload(65_536)));
    assert!(large.starts_with(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]));
}

#[test]
fn control_frames_come_back() {
    let close = |code, reason: &str| Frame::Close { code, reason: reason.to_owned() };
    for frame in [
        Frame::Ping(Bytes::new()),
        Frame::Ping(payload(125)),
        Frame::Pong(payload(125)),
        close(None, ""),
        close(Some(1000), ""),
        close(Some(4999), "grüße"),
        close(Some(1001), &"x".repeat(123)),
    ] {
        let bytes = encoded(Role::Client, &frame);
        assert_eq!(read(&mut reader(Role::Server), &bytes, &[]), Ok(vec![frame]));
    }
}

#[test]
fn a_client_masks_each_frame_with_another_key() {
    let frame = Frame::Text(payload(64));
    let (one, two) = (encoded(Role::Client, &frame), encoded(Role::Client, &frame));
    assert_eq!((one[1] & 0x80, one.len()), (0x80, 2 + 4 + 64));
    assert_ne!(one[2..], two[2..]);
}

#[test]
fn a_frame_built_in_place_is_the_frame_encoded() {
    for len in [0, 125, 126, 65_535, 65_536] {
        let mut built = Vec::new();
        for opcode in [Opcode::Text, Opcode::Binary] {
            write_payload(&mut built, Role::Client, opcode, len, |out| out.extend_from_slice(&payload(len)));
        }
        let frames = vec![Frame::Text(payload(len)), Frame::Binary(payload(len))];
        assert!(read(&mut reader(Role::Server), &built, &[]) == Ok(frames), "{len}");
    }
}

#[test]
fn what_websocket_does_not_allow_is_a_violation() {
    for (bytes, what) in [
        (&[0xc1, 0][..], Violation::ReservedBits),
        (&[0x91, 0], Violation::ReservedBits),
        (&[0x83, 0], Violation::Opcode),
        (&[0x8f, 0], Violation::Opcode),
        (&[0x81, 0x80], Violation::Masking),
        (&[0x81, 126, 0, 125], Violation::Length),
        (&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], Violation::Length),
        (&[0x81, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], Violation::Length),
        (&[0x09, 0], Violation::Control),
        (&[0x89, 126, 0, 126], Violation::Control),
        (&[0x80, 0], Violation::Fragments),
        (&[0x00, 0], Violation::Fragments),
        (&[0x01, 0, 0x81, 0], Violation::Fragments),
        (&[0x01, 0, 0x02, 0], Violation::Fragments),
        (&[0x88, 1, 3], Violation::Close),
        (&[0x88, 2, 0x03, 0xe7], Violation::Close),
        (&[0x88, 2, 0x03, 0xed], Violation::Close),
        (&[0x88, 2, 0x13, 0x88], Violation::Close),
        (&[0x88, 3, 0x03, 0xe8, 0xff], Violation::Close),
    ] {
        assert_eq!(violation(bytes), what, "{bytes:x?}");
    }
    assert_eq!(read(&mut reader(Role::Server), &[0x81, 0], &[]), Err(Violation::Masking));
}

#[test]
fn every_close_code_is_judged() {
    let allowed = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    for code in 0..=u16::MAX {
        let [high, low] = code.to_be_bytes();
        let frame = read(&mut reader(Role::Client), &[0x88, 2, high, low], &[]);
        let expected = Frame::Close { code: Some(code), reason: String::new() };
        assert_eq!(frame, if allowed(code) { Ok(vec![expected]) } else { Err(Violation::Close) }, "{code}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_header() {
    let gigabyte = [0x81, 127, 0, 0, 0, 0, 0x40, 0, 0, 0];
    assert_eq!(violation(&gigabyte), Violation::TooLarge);
    let mut reader = reader(Role::Client);
    reader.space().extend_from_slice(&gigabyte);
    assert!(reader.space().capacity() < 64 * 1024, "no room is made for it");

    let mut one_over = vec![0x81, 127];
    one_over.extend_from_slice(&(LIMIT as u64 + 1).to_be_bytes());
    assert_eq!(violation(&one_over), Violation::TooLarge);
}

#[test]
fn fragments_that_add_up_to_more_than_the_limit_are_refused_by_the_header_of_the_one_too_many() {
    let half = encoded(Role::Server, &Frame::Text(payload(LIMIT / 2)));
    let mut bytes = half.to_vec();
    bytes[0] = 0x01;
    let mut second = half.to_vec();
    second[0] = 0x00;
    bytes.extend_from_slice(&second);
    assert_eq!(read(&mut reader(Role::Client), &bytes, &[]), Ok(vec![]));
    bytes.extend_from_slice(&[0x80, 1]);
    assert_eq!(violation(&bytes), Violation::TooLarge);
}

#[test]
fn a_control_frame_between_fragments_comes_first_and_breaks_nothing() {
    let bytes = [&[0x01, 2, b'a', b'b'][..], &[0x89, 1, b'!'], &[0x00, 0], &[0x8a, 0], &[0x80, 1, b'c']].concat();
    let frames = [Frame::Ping("!".into()), Frame::Pong(Bytes::new()), Frame::Text("abc".into())];
    assert_eq!(read(&mut reader(Role::Client), &bytes, &[]), Ok(frames.to_vec()));
    let closing = [&[0x02, 1, b'a'][..], &[0x88, 0]].concat();
    let close = Frame::Close { code: None, reason: String::new() };
    assert_eq!(read(&mut reader(Role::Client), &closing, &[]), Ok(vec![close]), "a close may come at any time");
}

#[test]
fn endless_empty_fragments_end_the_connection() {
    let mut reader = reader(Role::Client);
    assert_eq!(read(&mut reader, &[0x01, 0], &[]), Ok(vec![]));
    let many = [0x00, 0].repeat(1000);
    let taken = (0..1000).take_while(|_| read(&mut reader, &many, &[]).is_ok()).count();
    assert_eq!(taken, 65, "of a million fragments 65,536 are put up with");
}

#[test]
fn a_large_message_leaves_a_small_buffer_behind() {
    let mut reader = reader(Role::Client);
    let bytes = encoded(Role::Server, &Frame::Binary(payload(LIMIT)));
    let frames = read(&mut reader, &bytes, &[10, 5000]).unwrap();
    assert_eq!(frames.len(), 1);
    assert!(reader.space().capacity() <= 2 * READ_BUFFER, "{}", reader.space().capacity());
}

#[test]
fn room_for_a_large_message_is_made_once_its_header_is_here() {
    let mut reader = reader(Role::Client);
    assert!(reader.space().capacity() >= READ_BUFFER / 4);
    let bytes = encoded(Role::Server, &Frame::Binary(payload(LIMIT)));
    reader.space().extend_from_slice(&bytes[..10]);
    assert_eq!(reader.pop(), Ok(None));
    assert!(reader.space().capacity() >= LIMIT);
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let len = prop_oneof![0usize..200, 4000usize..4200, 65_500usize..65_600];
    let bytes = len.prop_map(payload);
    let short = (0usize..=125).prop_map(payload);
    prop_oneof![
        bytes.clone().prop_map(Frame::Text),
        bytes.prop_map(Frame::Binary),
        short.clone().prop_map(Frame::Ping),
        short.prop_map(Frame::Pong),
        (prop_oneof![1000u16..1004, 3000u16..5000], "[a-zä]{0,40}")
            .prop_map(|(code, reason)| Frame::Close { code: Some(code), reason }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_come_back_however_the_stream_is_cut(
        frames in prop::collection::vec(any_frame(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        from_client: bool,
    ) {
        let (sender, receiver) = if from_client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| encoded(sender, frame)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert!(read(&mut reader(receiver), &bytes, &cuts) == Ok(frames));
    }

    #[test]
    fn a_short_message_comes_back_byte_by_byte(len in 0usize..300, from_client: bool) {
        let (sender, receiver) = if from_client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let frame = Frame::Text(payload(len));
        let bytes = encoded(sender, &frame);
        let cuts: Vec<usize> = (1..bytes.len()).collect();
        prop_assert_eq!(read(&mut reader(receiver), &bytes, &cuts), Ok(vec![frame]));
    }

    #[test]
    fn a_message_comes_back_whatever_its_fragments(
        message in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
        cuts.sort_unstable();
        let ends: Vec<usize> = cuts.into_iter().chain([message.len()]).collect();
        let mut bytes = Vec::new();
        for (index, end) in ends.iter().enumerate() {
            let start = if index == 0 { 0 } else { ends[index - 1] };
            let mut piece = encoded(Role::Client, &Frame::Text(Bytes::copy_from_slice(&message[start..*end])));
            piece[0] = if index + 1 == ends.len() { 0x80 } else { 0 } | u8::from(index == 0);
            bytes.extend_from_slice(&piece);
        }
        prop_assert_eq!(read(&mut reader(Role::Server), &bytes, &[]), Ok(vec![Frame::Text(message.into())]));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_and_within_bounds(bytes: Vec<u8>, server: bool) {
        let mut reader = reader(if server { Role::Server } else { Role::Client });
        let _ = read(&mut reader, &bytes, &[]);
        prop_assert!(reader.space().capacity() <= 2 * LIMIT);
    }
}
