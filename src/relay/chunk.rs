//! How bytes of a response become a frame: as base64 in JSON, or as they are behind a head of fixed size.
//!
//! Each chunk is encoded here once, masked, into the bytes that go over the wire. So its JSON is not written by serde, which
//! would need the base64 as a text first. No part of it needs an escape.
//!
//! Where the extension `endpoints` was agreed on, a job's first chunk carries the head of the response, also if it is sent
//! again on another connection. It is a `job_chunk` of JSON even where `binary` was agreed on, because binary frames have no
//! place for a head. Its bytes count for the offsets of those that follow.

use crate::messages::ids::JobId;
use crate::messages::wire::{BINARY_CHUNK_HEAD, BinaryChunk, Extension, Extensions, FromAgent, ResponseHead};
use crate::transport::websocket::codec::Frame;
use crate::transport::websocket::frame_buffer::FrameBuffer;

/// The most response bytes in one frame: it stays under 64 KiB, which every WebSocket library takes by default.
pub(crate) const MAX_CHUNK: usize = 32 * 1024;

/// The form in which the chunks of a connection travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding {
    /// Whether chunks are binary frames (the extension `binary`). Otherwise they are `job_chunk` frames.
    is_binary: bool,
    /// Whether a `job_chunk` has its offset (the extension `resume`).
    has_offsets: bool,
}

impl Encoding {
    /// The form that goes with what was agreed on.
    pub(super) fn of(agreed: Extensions) -> Self {
        let [is_binary, has_offsets] = [Extension::Binary, Extension::Resume].map(|one| agreed.contains(one));
        Self { is_binary, has_offsets }
    }

    /// Appends the frame of a chunk, without intermediate copies. `offset`: the response bytes before it.
    pub(super) fn append(self, out: &mut FrameBuffer, job: JobId, offset: u64, bytes: &[u8]) {
        if self.is_binary {
            return out.binary(BINARY_CHUNK_HEAD + bytes.len(), |out| {
                out.extend_from_slice(&BinaryChunk::head(job.uuid(), offset));
                out.extend_from_slice(bytes);
            });
        }
        if self.has_offsets {
            let offset = offset.to_string();
            return append_text(out, &[START, job.as_str().as_bytes(), QUOTE, OFFSET, offset.as_bytes(), DATA], bytes);
        }
        append_text(out, &[START, job.as_str().as_bytes(), QUOTE, DATA], bytes);
    }

    /// Appends the frame of a job's first chunk, which may be empty, with the head of its response.
    pub(super) fn append_first(self, out: &mut FrameBuffer, job: JobId, head: &ResponseHead, bytes: &[u8]) {
        let (status, kind) = (head.status().to_string(), head.content_type());
        let (name, offset): (&[u8], &[u8]) = if self.has_offsets { (OFFSET, b"0") } else { (b"", b"") };
        let (job, status, kind) = (job.as_str().as_bytes(), status.as_bytes(), kind.as_bytes());
        append_text(out, &[START, job, QUOTE, STATUS, status, TYPE, kind, QUOTE, name, offset, DATA], bytes);
    }
}

/// Appends a text frame of these parts, the bytes in base64, and what ends a chunk.
fn append_text(out: &mut FrameBuffer, parts: &[&[u8]], bytes: &[u8]) {
    let before: usize = parts.iter().map(|part| part.len()).sum();
    let size = before + bytes.len().div_ceil(3) * 4 + END.len();
    out.text(size, |out| {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        base64_simd::STANDARD.encode_append(bytes, out);
        out.extend_from_slice(END);
    });
}

/// Appends a job's terminal frame.
pub(super) fn append_terminal(out: &mut FrameBuffer, terminal: &FromAgent) {
    // Plain data with string keys always serializes.
    out.push(&Frame::Text(serde_json::to_vec(terminal).unwrap_or_default().into()));
}

const START: &[u8] = br#"{"type":"job_chunk","job_id":""#;
const QUOTE: &[u8] = br#"""#;
const STATUS: &[u8] = br#","status":"#;
const TYPE: &[u8] = br#","content_type":""#;
const OFFSET: &[u8] = br#","offset":"#;
const DATA: &[u8] = br#","data":""#;
const END: &[u8] = br#""}"#;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::BytesMut;

    use super::*;
    use crate::transport::websocket::codec::{FrameReader, Role};

    const BASE: Encoding = Encoding { is_binary: false, has_offsets: false };
    const OFFSETS: Encoding = Encoding { has_offsets: true, ..BASE };
    const BINARY: Encoding = Encoding { is_binary: true, ..BASE };

    fn written(append: impl FnOnce(&mut FrameBuffer)) -> Vec<u8> {
        let mut out = FrameBuffer::new(Role::Client);
        append(&mut out);
        out.waiting().to_vec()
    }

    fn read(frame: &[u8]) -> Frame {
        let mut reader = FrameReader::new(Role::Server, 1 << 16, BytesMut::from(frame));
        let read = reader.pop().unwrap().expect("a whole frame");
        assert!(matches!(reader.pop(), Ok(None)), "one frame and nothing behind it");
        read
    }

    #[test]
    fn every_form_reads_back() {
        let job = JobId::random();
        for len in [0, 1, 2, 3, 100, 4096, MAX_CHUNK - 1, MAX_CHUNK] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();

            for (encoding, offset) in [(BASE, None), (OFFSETS, Some(7))] {
                let text = written(|out| encoding.append(out, job, 7, &bytes));
                let Frame::Text(text) = read(&text) else { panic!("no text") };
                let Ok(FromAgent::JobChunk(chunk)) = serde_json::from_slice(&text) else { panic!("no chunk") };
                assert_eq!((chunk.job_id, chunk.offset), (job, offset));
                assert!(STANDARD.decode(chunk.data).unwrap() == bytes, "{len}");
            }

            let binary = written(|out| BINARY.append(out, job, 7, &bytes));
            let Frame::Binary(frame) = read(&binary) else { panic!("not binary") };
            let Ok(chunk) = BinaryChunk::parse(&frame) else { panic!("no chunk") };
            assert_eq!((chunk.job, chunk.offset), (job.uuid(), 7));
            assert!(chunk.bytes == bytes, "{len}");
        }
    }

    #[test]
    fn a_full_chunk_is_a_frame_below_64_kib() {
        for encoding in [BASE, OFFSETS, BINARY] {
            let frame = written(|out| encoding.append(out, JobId::random(), u64::MAX, &vec![0xff; MAX_CHUNK]));
            assert!(frame.len() < 1 << 16, "{encoding:?}");
        }
    }

    #[test]
    fn the_first_chunk_reads_back_with_its_head() {
        let job = JobId::random();
        let long = format!("application/{}", "x".repeat(84));
        for head in
            [ResponseHead::new(200, "text/event-stream"), ResponseHead::new(599, ""), ResponseHead::new(404, &long)]
        {
            for len in [0, 1, MAX_CHUNK] {
                for (encoding, offset) in [(BASE, None), (OFFSETS, Some(0)), (BINARY, None)] {
                    let bytes = vec![0xfe; len];
                    let frame = written(|out| encoding.append_first(out, job, &head, &bytes));
                    assert!(frame.len() < 1 << 16);
                    let Frame::Text(text) = read(&frame) else { panic!("no text") };
                    let Ok(FromAgent::JobChunk(chunk)) = serde_json::from_slice(&text) else { panic!("no chunk") };
                    assert_eq!((chunk.job_id, ResponseHead::of(&chunk)), (job, Some(head.clone())));
                    assert_eq!(chunk.offset, offset);
                    assert!(STANDARD.decode(chunk.data).unwrap() == bytes, "{len}");
                }
            }
        }
    }

    #[test]
    fn chunks_are_written_as_in_the_golden_files() {
        let job: JobId = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10".parse().unwrap();
        let bytes = b"data: {\"choices\":[]}\n\n";
        let text = |frame: &[u8]| match read(frame) {
            Frame::Text(text) => String::from_utf8(text.to_vec()).unwrap() + "\n",
            _ => panic!("not text"),
        };
        let chunk = written(|out| BASE.append(out, job, 0, bytes));
        assert_eq!(text(&chunk), include_str!("../../tests/golden/wire/job_chunk.json"));
        let head = ResponseHead::new(200, "text/event-stream");
        let first = written(|out| BASE.append_first(out, job, &head, bytes));
        assert_eq!(text(&first), include_str!("../../tests/golden/wire/job_chunk_head.json"));
        let offset = written(|out| OFFSETS.append(out, job, 65_536, bytes));
        assert_eq!(text(&offset), include_str!("../../tests/golden/wire/job_chunk_offset.json"));
    }

    #[test]
    fn chunks_have_the_form_that_was_agreed() {
        let of = |agreed: &[Extension]| Encoding::of(agreed.iter().copied().collect());
        assert_eq!(of(&[]), BASE);
        assert_eq!(of(&[Extension::Binary, Extension::Endpoints]), BINARY);
        assert_eq!(of(&[Extension::Resume]), OFFSETS);
        assert_eq!(of(&[Extension::Binary, Extension::Resume]), Encoding { has_offsets: true, ..BINARY });
    }
}
