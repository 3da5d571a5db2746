//! Bytes that wait to be written, in segments of one frame each: a segment is not moved once it is full, and it is freed
//! as its frame is encoded.

use std::collections::VecDeque;

use super::chunk::MAX_CHUNK;

/// A first segment that grows beyond this many bytes gets room for a full frame at once. The later ones grow by doubling:
/// what is held is bounded by its bytes.
const SHORT: usize = 4 * 1024;
/// The largest buffer that is kept while there are no bytes.
const KEPT: usize = 256;

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The next frame's bytes. Empty only if there are no bytes.
    front: Vec<u8>,
    /// The segments behind it. All but the last one are full.
    rest: VecDeque<Vec<u8>>,
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
                self.rest.push_back(Vec::new());
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

    /// The bytes of the next frame, at most [`MAX_CHUNK`].
    pub(super) fn front(&self) -> &[u8] {
        &self.front
    }

    /// Drops the bytes of the next frame.
    pub(super) fn pop(&mut self) {
        self.len -= self.front.len();
        match self.rest.pop_front() {
            Some(next) => self.front = next,
            None => self.front.clear(),
        }
    }

    /// Frees the memory that is not needed while there are no bytes.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.front.shrink_to(KEPT);
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
        fn bytes_come_out_in_order_in_segments_of_a_frame(
            pieces in proptest::collection::vec((prop_oneof![0_usize..300, 0..=3 * MAX_CHUNK], any::<bool>()), 0..40),
        ) {
            let (mut segments, mut appended, mut popped) = (Segments::default(), Vec::new(), Vec::new());
            for (n, (len, pops)) in pieces.into_iter().enumerate() {
                let piece = &BYTES[n..n + len];
                appended.extend_from_slice(piece);
                segments.push(piece);
                if pops {
                    prop_assert!(segments.front().len() <= MAX_CHUNK);
                    popped.extend_from_slice(segments.front());
                    segments.pop();
                    segments.shrink();
                }
                let held = appended.len() - popped.len();
                prop_assert_eq!(segments.len(), held);
                let capacity: usize = segments.rest.iter().chain([&segments.front]).map(Vec::capacity).sum();
                prop_assert!(capacity <= 2 * MAX_CHUNK + 2 * held, "{capacity} for {held}");
            }
            while !segments.is_empty() {
                prop_assert!(!segments.front().is_empty());
                popped.extend_from_slice(segments.front());
                segments.pop();
            }
            prop_assert!(popped == appended);
        }
    }
}
