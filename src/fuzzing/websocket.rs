//! The codec of WebSocket frames, in both roles, and the coordinator's scanner of frames before it.

use bytes::BytesMut;

use super::input::Input;
use crate::coordinator::frame_scanner::{FrameScanner, HeaderError};
use crate::transport::websocket::codec::{Frame, FrameReader, Role, Violation, encode};

/// What is reserved for reading in addition to a message.
const BUFFER: usize = 64 << 10;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let role = input.one_of(&[Role::Client, Role::Server]);
    let limit = input.one_of(&[1 << 20, 0, 10, 125, 300, 70_000]);
    let cut = input.cut();
    let bytes = input.rest();
    let pieces = cut.pieces(bytes);
    let whole = read(role, limit, &[bytes]);
    assert_eq!(read(role, limit, &pieces), whole);
    let (frames, violation) = whole;
    assert!(frames.iter().map(payload).sum::<usize>() <= bytes.len());
    for frame in &frames {
        let most = if matches!(frame, Frame::Text(_) | Frame::Binary(_)) { limit } else { 125 };
        assert!(payload(frame) <= most);
    }
    reads_back(role, &frames);
    if role == Role::Server {
        // A control frame is within any limit.
        scans(bytes, &pieces, limit.max(125), &frames, violation);
    }
}

fn payload(frame: &Frame) -> usize {
    match frame {
        Frame::Text(bytes) | Frame::Binary(bytes) | Frame::Ping(bytes) | Frame::Pong(bytes) => bytes.len(),
        Frame::Close { code, reason } => reason.len() + code.map_or(0, |_| 2),
    }
}

fn read(role: Role, limit: usize, pieces: &[&[u8]]) -> (Vec<Frame>, Option<Violation>) {
    let mut reader = FrameReader::new(role, limit, BytesMut::new());
    let mut frames = Vec::new();
    for piece in pieces {
        let space = reader.space();
        assert!(space.capacity() > space.len(), "there is room for the next bytes");
        assert!(space.capacity() <= 2 * (limit + piece.len() + BUFFER), "the buffer is bounded");
        space.extend_from_slice(piece);
        loop {
            match reader.pop() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation)),
            }
        }
    }
    (frames, None)
}

/// What the other end writes is what is read.
fn reads_back(role: Role, frames: &[Frame]) {
    let sender = if role == Role::Client { Role::Server } else { Role::Client };
    let mut bytes = BytesMut::new();
    frames.iter().for_each(|frame| encode(&mut bytes, sender, frame));
    assert_eq!(read(role, 1 << 30, &[&bytes]), (frames.to_vec(), None));
}

/// The longest header of a frame.
const HEADER: usize = 14;

/// The scanner finds the same ends of frames in any pieces, and refuses nothing that is read. It refuses a header as soon as
/// it can.
fn scans(bytes: &[u8], pieces: &[&[u8]], limit: usize, frames: &[Frame], violation: Option<Violation>) {
    let whole = ends(&[bytes], limit);
    assert_eq!(ends(pieces, limit), whole);
    let (ends, error) = whole;
    match violation {
        None => {
            let left = bytes.len() - ends.last().copied().unwrap_or_default();
            assert!(error.is_none() || left < HEADER);
            assert!(ends.len() >= frames.len());
        }
        Some(Violation::ReservedBits | Violation::Opcode | Violation::Masking | Violation::Control) => {
            assert_eq!(error, Some(HeaderError::Invalid));
        }
        Some(Violation::Length | Violation::Fragments | Violation::Close | Violation::TooLarge) => {}
    }
}

fn ends(pieces: &[&[u8]], limit: usize) -> (Vec<usize>, Option<HeaderError>) {
    let mut scanner = FrameScanner::default();
    let (mut ends, mut at) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match scanner.next_span(rest, limit as u64) {
                Ok(span) => {
                    assert!(span.len > 0, "it goes on");
                    at += span.len;
                    ends.extend(span.ends_frame.then_some(at));
                    rest = &rest[span.len..];
                }
                Err(error) => return (ends, Some(error)),
            }
        }
    }
    (ends, None)
}
