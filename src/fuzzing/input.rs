//! Taking an input apart: options from its front, and its rest in pieces.

use std::convert::Infallible;

use rand::TryRng;

/// The bytes of an input, taken from the front. At its end there are zeros.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of these values, by the next byte.
    pub(super) fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::from(self.byte()) % values.len()]
    }

    /// How the rest is cut, by the next byte.
    pub(super) fn cut(&mut self) -> Cut {
        Cut(self.byte())
    }

    /// What was not taken.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// How many bytes were not taken.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// So that what chooses by random numbers can choose by an input.
impl TryRng for Input<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // Choices are made by the highest bits of a number: its two highest bytes are enough.
        Ok(u32::from_be_bytes([self.byte(), self.byte(), 0, 0]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.try_next_u32().map(|high| u64::from(high) << 32)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill_with(|| self.byte());
        Ok(())
    }
}

/// How a text is cut into pieces: 0 byte by byte, up to 127 into pieces of that length, and else into pieces of 1 to 64
/// bytes.
#[derive(Clone, Copy)]
pub(super) struct Cut(u8);

impl Cut {
    pub(super) fn pieces(self, text: &[u8]) -> Vec<&[u8]> {
        let mut length = u32::from(self.0);
        let (mut pieces, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            if self.0 > 127 {
                length = length.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            }
            let next = if self.0 > 127 { length >> 16 & 63 } else { length };
            let (piece, tail) = rest.split_at((next as usize).clamp(1, rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    }
}
