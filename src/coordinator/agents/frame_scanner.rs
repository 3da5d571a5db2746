//! Finds the boundaries of frames in a stream of WebSocket bytes (RFC 6455, section 5.2), and the headers that end the stream.
//!
//! Pure: no socket. [`Metered`](super::inbound::Metered) calls it.

/// Why a stream ends at a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// It announces a payload that is over the limit.
    TooLarge,
    /// No client may send it: it has a reserved bit, an unknown opcode or no mask, or is a long or fragmented control frame.
    Invalid,
}

/// The part of a slice that belongs to one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its length in bytes, from the first one on.
    pub(crate) len: usize,
    /// Whether the frame ends with them.
    pub(crate) ends_frame: bool,
}

/// Follows a stream of bytes, one frame at a time.
#[derive(Default)]
pub(crate) struct FrameScanner {
    /// The header that is being read, 14 bytes at most.
    header: Vec<u8>,
    /// Payload bytes of the current frame that have not arrived.
    payload: u64,
}

impl FrameScanner {
    /// Returns how many of the next bytes belong to the current frame. The next call must start after them. After an error
    /// the rest of the stream can't be read.
    pub(crate) fn next_span(&mut self, bytes: &[u8], max_payload: u64) -> Result<Span, HeaderError> {
        let mut len = 0;
        while self.payload == 0 {
            let Some(byte) = bytes.get(len) else { return Ok(Span { len, ends_frame: false }) };
            self.header.push(*byte);
            len += 1;
            check(&self.header)?;
            let Some(payload) = announced(&self.header) else { continue };
            self.header.clear();
            if payload > max_payload {
                return Err(HeaderError::TooLarge);
            }
            if payload == 0 {
                return Ok(Span { len, ends_frame: true });
            }
            self.payload = payload;
        }
        let here = self.payload.min((bytes.len() - len) as u64);
        self.payload -= here;
        Ok(Span { len: len + here as usize, ends_frame: self.payload == 0 })
    }
}

/// Checks the first two bytes of a header, or only the first one if there is no second.
fn check(header: &[u8]) -> Result<(), HeaderError> {
    let Some(first) = header.first() else { return Ok(()) };
    let (is_last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
    let is_control = opcode & 0x8 != 0;
    if reserved != 0 || !matches!(opcode, 0..=2 | 8..=10) || (is_control && !is_last) {
        return Err(HeaderError::Invalid);
    }
    let Some(second) = header.get(1) else { return Ok(()) };
    let is_masked = second & 0x80 != 0;
    let is_long = second & 0x7f > 125;
    if is_masked && !(is_control && is_long) { Ok(()) } else { Err(HeaderError::Invalid) }
}

/// The payload length that a header announces, once the header is complete with its mask.
fn announced(header: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = header else { return None };
    let (length, extended) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
        short => (u64::from(short), 0),
    };
    (rest.len() >= extended + 4).then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x81];
        match payload {
            0..126 => bytes.push(0x80 | payload as u8),
            126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        // A payload that looks like headers of huge frames.
        bytes.extend(vec![0xff; 4 + payload]);
        bytes
    }

    /// The lengths of the frames in bytes that come in these pieces.
    fn lengths<'a>(pieces: impl Iterator<Item = &'a [u8]>, max: u64) -> Result<Vec<usize>, HeaderError> {
        let (mut scanner, mut lengths, mut so_far) = (FrameScanner::default(), Vec::new(), 0);
        for mut piece in pieces {
            while !piece.is_empty() {
                let span = scanner.next_span(piece, max)?;
                piece = &piece[span.len..];
                so_far += span.len;
                if span.ends_frame {
                    lengths.push(std::mem::take(&mut so_far));
                }
            }
        }
        assert_eq!(so_far, 0, "a frame is not complete");
        Ok(lengths)
    }

    proptest! {
        #[test]
        fn boundaries_are_found_however_the_bytes_are_split(
            sizes in prop::collection::vec(prop_oneof![0_usize..200, 65_530_usize..65_545], 1..6),
            cut in 1_usize..70_000,
        ) {
            let frames: Vec<Vec<u8>> = sizes.iter().map(|size| frame(*size)).collect();
            let stream = frames.concat();
            let max = sizes.iter().copied().max().unwrap_or_default() as u64;
            let want: Vec<usize> = frames.iter().map(Vec::len).collect();
            prop_assert_eq!(lengths(stream.chunks(cut), max), Ok(want));
            if max > 0 {
                prop_assert_eq!(lengths(stream.chunks(cut), max - 1), Err(HeaderError::TooLarge));
            }
        }
    }

    #[test]
    fn a_huge_frame_is_refused_by_its_header_alone() {
        let header = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        assert_eq!(FrameScanner::default().next_span(&header, 1 << 20), Err(HeaderError::TooLarge));
    }

    #[test]
    fn a_header_that_no_client_may_send_is_refused_by_its_first_two_bytes() {
        for header in [
            [0xf1, 0x80], // reserved bits
            [0xc1, 0x80],
            [0x83, 0x80], // opcodes without a meaning
            [0x8b, 0x80],
            [0x81, 0x00], // no mask
            [0x09, 0x80], // a fragment of a ping
            [0x89, 0xfe], // a ping of more than 125 bytes
            [0x88, 0xff],
        ] {
            for cut in [1, 2] {
                assert_eq!(lengths(header.chunks(cut), 1 << 20), Err(HeaderError::Invalid), "{header:x?}");
            }
        }
        for header in [[0x01, 0x80], [0x00, 0x80], [0x80, 0x80], [0x82, 0x80], [0x88, 0x80], [0x89, 0x80], [0x8a, 0x80]]
        {
            let whole = [&header[..], &[1, 2, 3, 4]].concat();
            assert_eq!(lengths(whole.chunks(1), 1 << 20), Ok(vec![6]), "{header:x?}");
        }
    }
}
