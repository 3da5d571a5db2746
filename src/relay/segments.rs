//! Bytes that wait to be written, in segments of one frame each. They are not moved, and a segment is freed when its frame
//! is encoded.

use std::collections::VecDeque;

use super::chunk::MAX_CHUNK;

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The bytes of the next frame. Empty only if there are no bytes.
    front: Vec<u8>,
    /// The bytes after it. All segments except the last are full.
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

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            let last = self.rest.back_mut().unwrap_or(&mut self.front);
            let room = MAX_CHUNK - last.len();
            if room == 0 {
                self.rest.push_back(Vec::with_capacity(MAX_CHUNK));
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Takes the bytes of the next frame, at most [`MAX_CHUNK`].
    pub(super) fn pop(&mut self) -> Vec<u8> {
        let next = std::mem::replace(&mut self.front, self.rest.pop_front().unwrap_or_default());
        self.len -= next.len();
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_in_order_in_segments_of_a_frame(
            pieces in proptest::collection::vec((0_usize..100_000, any::<bool>()), 0..20),
        ) {
            let (mut segments, mut appended, mut popped) = (Segments::default(), Vec::new(), Vec::new());
            for (n, (len, pops)) in pieces.into_iter().enumerate() {
                let piece: Vec<u8> = (0..len).map(|i| (i + n) as u8).collect();
                segments.append(&piece);
                appended.extend_from_slice(&piece);
                if pops {
                    let segment = segments.pop();
                    prop_assert!(segment.len() <= MAX_CHUNK);
                    popped.extend_from_slice(&segment);
                }
                prop_assert_eq!(segments.len(), appended.len() - popped.len());
            }
            while !segments.is_empty() {
                let segment = segments.pop();
                prop_assert!(!segment.is_empty());
                popped.extend_from_slice(&segment);
            }
            prop_assert!(popped == appended);
        }
    }
}
