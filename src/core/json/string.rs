//! The end of a JSON string, found 64 bytes at a time.
//!
//! The masks are those of "Parsing Gigabytes of JSON per Second" (Langdale, Lemire, 2019): one bit for each byte of a
//! block, and no branch that depends on how often a prompt escapes a quote.

use wide::u8x16;

/// Bytes that are scanned together: one for each bit of a mask.
const BLOCK: usize = 64;

/// The position of the closing quote of the string that begins at `from`, after its opening quote. `None` if there is none,
/// or if the string contains a control character or an invalid escape.
pub(super) fn closing_quote(json: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    // 1 if the block's first byte is escaped by the last one of the block before.
    let mut carried = 0;
    loop {
        let rest = json.get(at..)?;
        let block = match rest.first_chunk::<BLOCK>() {
            Some(block) => Block::new(block),
            // Zeros are control characters: the text ends inside the string unless its quote comes before them.
            None => {
                let mut padded = [0; BLOCK];
                padded.get_mut(..rest.len())?.copy_from_slice(rest);
                Block::new(&padded)
            }
        };
        let (backslashes, all_quotes) = (block.equal(b'\\'), block.equal(b'"'));
        let escaped = escaped(backslashes, &mut carried);
        let quotes = all_quotes & !escaped;
        let inside = if quotes == 0 { u64::MAX } else { (1 << quotes.trailing_zeros()) - 1 };
        if block.at_most(0x1f) & inside != 0 {
            return None;
        }
        // Most strings have only three kinds of escapes, which need no further check.
        let escapes = escaped & inside & !(backslashes | all_quotes);
        if escapes != 0 && escapes & !block.equal(b'n') != 0 && !are_escapes(escapes, rest) {
            return None;
        }
        if quotes != 0 {
            return Some(at + quotes.trailing_zeros() as usize);
        }
        at += BLOCK;
    }
}

/// Which bytes are escaped, given where the backslashes are: those after one that is not escaped itself.
fn escaped(backslashes: u64, carried: &mut u64) -> u64 {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    if backslashes == 0 {
        return std::mem::take(carried);
    }
    let starts = backslashes & !*carried;
    let ends = ((starts << 1 | ODD).wrapping_sub(starts)) ^ ODD;
    let escaped = ends ^ (backslashes | *carried);
    *carried = (ends & backslashes) >> 63;
    escaped
}

/// Whether the bytes of `text` at `escapes` are valid after a backslash.
fn are_escapes(mut escapes: u64, text: &[u8]) -> bool {
    while escapes != 0 {
        let index = escapes.trailing_zeros() as usize;
        let is_escape = match text.get(index) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
            Some(b'u') => text.get(index + 1..index + 5).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
            _ => false,
        };
        if !is_escape {
            return false;
        }
        escapes &= escapes - 1;
    }
    true
}

/// The bytes under the 64 bits of a mask.
struct Block([u8x16; 4]);

impl Block {
    #[inline(always)]
    fn new(bytes: &[u8; BLOCK]) -> Self {
        let lane = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(u8x16::ZERO, |lane| u8x16::new(*lane))
        };
        Self([lane(0), lane(16), lane(32), lane(48)])
    }

    /// One bit for each byte: whether it is this one.
    #[inline(always)]
    fn equal(&self, byte: u8) -> u64 {
        let byte = u8x16::splat(byte);
        self.mask(|lane| lane.simd_eq(byte))
    }

    /// One bit for each byte: whether it is this one or less.
    #[inline(always)]
    fn at_most(&self, byte: u8) -> u64 {
        let byte = u8x16::splat(byte);
        self.mask(|lane| lane.min(byte).simd_eq(lane))
    }

    #[inline(always)]
    fn mask(&self, of: impl Fn(u8x16) -> u8x16) -> u64 {
        let [a, b, c, d] = self.0;
        let of = |lane| u64::from(of(lane).to_bitmask());
        of(a) | of(b) << 16 | of(c) << 32 | of(d) << 48
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, one byte at a time.
    fn slowly(json: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            match *json.get(at)? {
                b'"' => return Some(at),
                0..0x20 => return None,
                b'\\' => match *json.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                    b'u' if json.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                    _ => return None,
                },
                _ => at += 1,
            }
        }
    }

    #[test]
    fn a_quote_is_found_after_any_number_of_backslashes() {
        for before in 0..140 {
            for backslashes in 0..140 {
                let text = format!("{}{}\" \"", "x".repeat(before), r"\".repeat(backslashes));
                assert_eq!(closing_quote(text.as_bytes(), 0), slowly(text.as_bytes(), 0), "{before}, {backslashes}");
            }
        }
    }

    #[test]
    fn what_a_string_must_not_contain_is_refused_at_any_place() {
        for before in 0..140 {
            for wrong in ["\n", "\0", "\\x", "\\u12", "\\u12g4", "\\", "\\u", ""] {
                let ended = if wrong.is_empty() { "" } else { "\"" };
                let text = format!("{}{wrong}{ended}", "x".repeat(before));
                assert_eq!(closing_quote(text.as_bytes(), 0), None, "{before}, {wrong:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_where_a_slow_reader_finds_the_end(text in r#"([xyé\\"]|\\u[0-9a-fA-F]{4}|\\[nt"\\]|x{20,70}|[\n\\]{0,1}){0,40}"#, from in 0_usize..3) {
            prop_assert_eq!(closing_quote(text.as_bytes(), from), slowly(text.as_bytes(), from));
        }
    }
}
