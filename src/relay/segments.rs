//! Bytes that wait to be written, in segments of one frame each: they are never moved, and a segment is freed as its frame
//! is encoded.

use std::collections::VecDeque;

use super::chunk::MAX_CHUNK;

/// A shorter segment is copied behind the one before it, where that has room.
const COPIED: usize = 4 * 1024;

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The next frame's bytes. Empty only if all is.
    front: Vec<u8>,
    /// What comes behind it.
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

    /// Appends a segment of at most [`MAX_CHUNK`] bytes.
    pub(super) fn push(&mut self, mut segment: Vec<u8>) {
        if segment.capacity() > 2 * segment.len() + COPIED {
            // What is held is bounded by the bytes in it.
            segment.shrink_to_fit();
        }
        self.len += segment.len();
        let last = self.rest.back_mut().unwrap_or(&mut self.front);
        if last.is_empty() {
            *last = segment;
        } else if segment.len() <= COPIED && last.len() + segment.len() <= MAX_CHUNK {
            last.extend_from_slice(&segment);
        } else {
            self.rest.push_back(segment);
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
            pieces in proptest::collection::vec((prop_oneof![0_usize..300, 0..=MAX_CHUNK], any::<bool>()), 0..40),
        ) {
            let (mut segments, mut appended, mut popped) = (Segments::default(), Vec::new(), Vec::new());
            for (n, (len, pops)) in pieces.into_iter().enumerate() {
                let piece: Vec<u8> = (0..len).map(|i| (i + n) as u8).collect();
                appended.extend_from_slice(&piece);
                segments.push(piece);
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
