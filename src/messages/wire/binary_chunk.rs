//! A chunk as a binary frame: a head of fixed size, then the bytes as they are.
//!
//! ```text
//! 0          1                      17                25
//! | version  | the job's UUID       | offset, u64 BE  | bytes of the response …
//! ```

use bytes::Bytes;
use uuid::Uuid;

/// The only version there is.
const VERSION: u8 = 1;
/// Bytes before those of the response.
pub const BINARY_CHUNK_HEAD: usize = 25;

/// A chunk that travels as a binary frame. It has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct BinaryChunk {
    /// The job's id. The letters in which the coordinator wrote it are not kept.
    pub job: Uuid,
    /// Bytes of the response before this chunk.
    pub offset: u64,
    /// Bytes as the backend sent them: a slice of the frame.
    pub bytes: Bytes,
}

/// Why a binary frame is not a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum BinaryChunkError {
    /// It ends within its head.
    Short,
    /// Another version than 1.
    Version,
}

impl BinaryChunkError {
    /// The error as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "binary frame too short",
            Self::Version => "binary frame of another version",
        }
    }
}

impl BinaryChunk {
    /// What stands before the bytes of a chunk.
    pub fn head(job: Uuid, offset: u64) -> [u8; BINARY_CHUNK_HEAD] {
        let mut head = [0; BINARY_CHUNK_HEAD];
        let (version, rest) = head.split_at_mut(1);
        let (id, place) = rest.split_at_mut(16);
        version.copy_from_slice(&[VERSION]);
        id.copy_from_slice(job.as_bytes());
        place.copy_from_slice(&offset.to_be_bytes());
        head
    }

    /// Reads one binary frame.
    pub fn parse(frame: &Bytes) -> Result<Self, BinaryChunkError> {
        let (&version, rest) = frame.split_first().ok_or(BinaryChunkError::Short)?;
        if version != VERSION {
            return Err(BinaryChunkError::Version);
        }
        let (id, rest) = rest.split_first_chunk::<16>().ok_or(BinaryChunkError::Short)?;
        let (offset, bytes) = rest.split_first_chunk::<8>().ok_or(BinaryChunkError::Short)?;
        Ok(Self { job: Uuid::from_bytes(*id), offset: u64::from_be_bytes(*offset), bytes: frame.slice_ref(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn its_layout_is_fixed() {
        let job = Uuid::from_bytes(std::array::from_fn(|i| 0xa0 + i as u8));
        let mut frame = BinaryChunk::head(job, 0x0102_0304_0506_0708).to_vec();
        assert_eq!(frame[0], 1);
        assert_eq!(frame[1..17], (0xa0..0xb0).collect::<Vec<u8>>());
        assert_eq!(frame[17..25], [1, 2, 3, 4, 5, 6, 7, 8]);
        frame.extend_from_slice(b"hi");
        let Ok(chunk) = BinaryChunk::parse(&frame.into()) else { panic!("no chunk") };
        assert_eq!((chunk.job, chunk.offset, &chunk.bytes[..]), (job, 0x0102_0304_0506_0708, &b"hi"[..]));
    }

    #[test]
    fn what_is_short_or_of_another_version_is_no_chunk() {
        let head = BinaryChunk::head(Uuid::nil(), 0);
        for len in 0..BINARY_CHUNK_HEAD {
            let error = BinaryChunk::parse(&Bytes::copy_from_slice(&head[..len])).err();
            assert_eq!(error, Some(BinaryChunkError::Short), "{len}");
        }
        for version in [0, 2, 255] {
            let mut frame = head;
            frame[0] = version;
            let error = BinaryChunk::parse(&Bytes::copy_from_slice(&frame)).err();
            assert_eq!(error, Some(BinaryChunkError::Version));
        }
    }

    proptest! {
        #[test]
        fn a_chunk_reads_back_as_it_was_written(id: [u8; 16], offset: u64, bytes: Vec<u8>) {
            let job = Uuid::from_bytes(id);
            let frame = Bytes::from([&BinaryChunk::head(job, offset)[..], &bytes[..]].concat());
            let chunk = BinaryChunk { job, offset, bytes: bytes.into() };
            prop_assert!(BinaryChunk::parse(&frame) == Ok(chunk));
        }
    }
}
