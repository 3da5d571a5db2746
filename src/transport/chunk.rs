//! How bytes of a response become a frame: as base64 in JSON, or as they are behind a head of fixed size.
//!
//! Each chunk is encoded here once, masked, into the bytes that go over the wire.

use super::frame::{Opcode, build};
use crate::messages::ids::JobId;
use crate::messages::wire::{BINARY_CHUNK_HEAD, BinaryChunk, Extension, Extensions};

/// The form in which the chunks of a connection travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `job_chunk`, as the base protocol has it.
    Json,
    /// Binary frames, as the extension `binary` has it.
    Binary,
}

impl Encoding {
    /// The form that goes with what was agreed on.
    pub(super) fn of(agreed: Extensions) -> Self {
        if agreed.contains(Extension::Binary) { Self::Binary } else { Self::Json }
    }

    /// Bytes of the payload of a chunk's frame.
    pub(super) fn size(self, job: JobId, bytes: &[u8]) -> usize {
        match self {
            Self::Json => HEAD.len() + job.as_str().len() + MIDDLE.len() + bytes.len().div_ceil(3) * 4 + TAIL.len(),
            Self::Binary => BINARY_CHUNK_HEAD + bytes.len(),
        }
    }

    /// The whole frame of a chunk that has `offset` bytes of the response before it, written without intermediate copies.
    pub(super) fn frame(self, job: JobId, offset: u64, bytes: &[u8]) -> Vec<u8> {
        let size = self.size(job, bytes);
        match self {
            Self::Json => build(Opcode::Text, size, |out| {
                out.extend_from_slice(HEAD);
                out.extend_from_slice(job.as_str().as_bytes());
                out.extend_from_slice(MIDDLE);
                base64_simd::STANDARD.encode_append(bytes, out);
                out.extend_from_slice(TAIL);
            }),
            Self::Binary => build(Opcode::Binary, size, |out| {
                out.extend_from_slice(&BinaryChunk::head(job.uuid(), offset));
                out.extend_from_slice(bytes);
            }),
        }
    }
}

const HEAD: &[u8] = br#"{"type":"job_chunk","job_id":""#;
const MIDDLE: &[u8] = br#"","data":""#;
const TAIL: &[u8] = br#""}"#;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::BytesMut;

    use super::super::frame::{Frame, FrameReader, Role};
    use super::super::uplink::MAX_CHUNK;
    use super::*;
    use crate::messages::wire::FromAgent;

    fn read(frame: &[u8]) -> Frame {
        let mut reader = FrameReader::new(Role::Server, 1 << 16, BytesMut::from(frame));
        let read = reader.pop().unwrap().expect("a whole frame");
        assert!(matches!(reader.pop(), Ok(None)), "one frame and nothing behind it");
        read
    }

    #[test]
    fn either_form_reads_back_and_is_as_long_as_was_said() {
        let job = JobId::random();
        for len in [0, 1, 2, 3, 100, 4096, MAX_CHUNK - 1, MAX_CHUNK] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();

            let Frame::Text(text) = read(&Encoding::Json.frame(job, 7, &bytes)) else { panic!("no text") };
            assert_eq!(text.len(), Encoding::Json.size(job, &bytes));
            let Ok(FromAgent::JobChunk(chunk)) = serde_json::from_slice(&text) else { panic!("no chunk") };
            assert_eq!(chunk.job_id, job);
            assert!(STANDARD.decode(chunk.data).unwrap() == bytes, "{len}");

            let Frame::Binary(frame) = read(&Encoding::Binary.frame(job, 7, &bytes)) else { panic!("not binary") };
            assert_eq!(frame.len(), Encoding::Binary.size(job, &bytes));
            let Ok(chunk) = BinaryChunk::parse(&frame) else { panic!("no chunk") };
            assert_eq!((chunk.job, chunk.offset), (job.uuid(), 7));
            assert!(chunk.bytes == bytes, "{len}");
        }
    }

    #[test]
    fn a_full_chunk_is_a_frame_below_64_kib() {
        for encoding in [Encoding::Json, Encoding::Binary] {
            assert!(encoding.frame(JobId::random(), u64::MAX, &vec![0xff; MAX_CHUNK]).len() < 1 << 16, "{encoding:?}");
        }
    }

    #[test]
    fn chunks_are_binary_only_where_that_was_agreed() {
        assert_eq!(Encoding::of(Extensions::NONE), Encoding::Json);
        assert_eq!(Encoding::of(Extensions::all()), Encoding::Binary);
    }
}
