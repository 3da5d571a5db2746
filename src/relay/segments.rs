//! The bytes of a response that are held, in segments of one frame each: a segment is not moved once it is full, and it is
//! freed when its last byte is no longer needed.

use std::collections::VecDeque;

use super::chunk::MAX_CHUNK;

/// A first segment that grows beyond this many bytes gets room for a full frame at once, as each later one does. The allocator
/// reuses blocks of one size. Blocks that grow by doubling would leave holes, which stay in the process's memory.
const SHORT: usize = 4 * 1024;
/// The largest buffer that is kept while there are no bytes.
const IDLE_CAPACITY: usize = 256;

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The first segment. Empty only if there are no bytes.
    front: Vec<u8>,
    /// The segments behind it. All segments but the last one are full.
    rest: VecDeque<Vec<u8>>,
    /// Bytes of the first segment that are no longer needed.
    gone: usize,
    len: usize,
}

impl Segments {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            let is_first = self.rest.is_empty();
            let last = self.rest.back_mut().unwrap_or(&mut self.front);
            let room = MAX_CHUNK - last.len();
            if room == 0 {
                self.rest.push_back(Vec::with_capacity(MAX_CHUNK));
                continue;
            }
            let (piece, behind) = bytes.split_at(bytes.len().min(room));
            if is_first && last.len() + piece.len() > SHORT {
                last.reserve_exact(room);
            }
            last.extend_from_slice(piece);
            bytes = behind;
        }
    }

    /// The bytes from this position on, up to the end of their segment: at most [`MAX_CHUNK`].
    pub(super) fn from(&self, position: usize) -> &[u8] {
        let place = self.gone + position;
        let segment = match (place / MAX_CHUNK).checked_sub(1) {
            None => Some(&self.front),
            Some(behind) => self.rest.get(behind),
        };
        segment.and_then(|segment| segment.get(place % MAX_CHUNK..)).unwrap_or_default()
    }

    /// Drops the first bytes.
    pub(super) fn discard(&mut self, bytes: usize) {
        self.len -= bytes;
        self.gone += bytes;
        while self.gone >= MAX_CHUNK {
            self.gone -= MAX_CHUNK;
            match self.rest.pop_front() {
                Some(next) => self.front = next,
                None => self.front.clear(),
            }
        }
        if self.is_empty() {
            self.front.clear();
            self.gone = 0;
        }
    }

    /// Frees the memory that is not needed while there are no bytes.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.front.shrink_to(IDLE_CAPACITY);
            self.rest = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Bytes of which no two next to each other are the same.
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..3 * MAX_CHUNK + 40).map(|at| at as u8).collect());

    proptest! {
        #[test]
        fn bytes_are_read_from_any_position_in_segments_of_a_frame_until_they_are_dropped(
            pieces in proptest::collection::vec(
                (prop_oneof![0_usize..300, 0..=3 * MAX_CHUNK], any::<bool>(), any::<prop::sample::Index>()),
                0..40,
            ),
        ) {
            let (mut segments, mut appended, mut dropped) = (Segments::default(), Vec::new(), 0);
            for (n, (len, drops, index)) in pieces.into_iter().enumerate() {
                let piece = &BYTES[n..n + len];
                appended.extend_from_slice(piece);
                segments.push(piece);
                let place = index.index(segments.len() + 1);
                let read = segments.from(place);
                prop_assert!(read.len() <= MAX_CHUNK && read.is_empty() == (place == segments.len()));
                prop_assert!(appended[dropped + place..].starts_with(read));
                if drops {
                    segments.discard(place);
                    segments.shrink();
                    dropped += place;
                }
                let held = appended.len() - dropped;
                prop_assert_eq!(segments.len(), held);
                let capacity: usize = segments.rest.iter().chain([&segments.front]).map(Vec::capacity).sum();
                prop_assert!(capacity <= 3 * MAX_CHUNK + 2 * held, "{capacity} for {held}");
                prop_assert!(segments.rest.iter().all(|segment| segment.capacity() == MAX_CHUNK), "blocks of one size");
            }
            while !segments.is_empty() {
                let read = segments.from(0);
                prop_assert!(!read.is_empty() && appended[dropped..].starts_with(read));
                let len = read.len();
                dropped += len;
                segments.discard(len);
            }
            prop_assert_eq!(dropped, appended.len());
        }
    }
}
