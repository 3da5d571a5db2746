//! The chunked coding of a body (RFC 9112, 7.1), taken off in place. Strict, as servers and proxies that read the same
//! bytes differently are how content is smuggled. Extensions and trailers are skipped. No I/O; driven by `framing`.

use super::progress::{Decoded, Progress};

/// Most bytes between two pieces of data: the line of a size with its extensions, or all trailers.
const BETWEEN: u32 = 8 * 1024;
/// A run of data of this length or more is not moved to the data before it. In bytes.
const MOVED_BELOW: usize = 4 * 1024;
/// Most digits of a size: those of 64 bits.
const DIGITS: u8 = 16;

/// How far a chunked body has been read.
pub(super) struct Chunked {
    place: Place,
    /// Bytes since the last data.
    between: u32,
}

/// What the next byte belongs to. `size` is that of the chunk to come.
#[derive(Clone, Copy)]
enum Place {
    Size {
        size: u64,
        digits: u8,
    },
    /// Blanks behind a size, which some servers write to fill a fixed width.
    Blank {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { place: Place::Size { size: 0, digits: 0 }, between: 0 }
    }

    /// Moves the data in the buffer together, up to a long run of it, and returns its place.
    pub(super) fn decode(&mut self, buffer: &mut [u8]) -> Decoded {
        let mut data = 0..0;
        let mut at = 0;
        while let Some(byte) = buffer.get(at).copied() {
            if let Place::Data { left } = self.place {
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len() - at);
                if data.is_empty() {
                    data = at..at;
                } else if run >= MOVED_BELOW {
                    return Decoded { data, read: at, progress: Progress::More };
                } else {
                    buffer.copy_within(at..at + run, data.end);
                }
                data.end += run;
                at += run;
                self.between = 0;
                self.place = if run as u64 == left { Place::DataCr } else { Place::Data { left: left - run as u64 } };
                continue;
            }
            if matches!((self.place, byte), (Place::LastLf, b'\n')) {
                let read = at + 1;
                let progress = if read < buffer.len() { Progress::Surplus } else { Progress::End };
                return Decoded { data, read, progress };
            }
            self.between += 1;
            match self.place.next(byte) {
                Some(place) if self.between <= BETWEEN => self.place = place,
                _ => return Decoded { data, read: at, progress: Progress::Broken },
            }
            at += 1;
        }
        Decoded { data, read: at, progress: Progress::More }
    }
}

impl Place {
    /// The place behind a byte that is not data. `None`: the byte can't stand there.
    fn next(self, byte: u8) -> Option<Self> {
        let place = match (self, byte) {
            (Self::Size { size, digits: 1.. } | Self::Blank { size } | Self::Extension { size }, b'\r') => {
                Self::SizeEnd { size }
            }
            (Self::Size { size, digits: 1.. } | Self::Blank { size }, b';') => Self::Extension { size },
            (Self::Size { size, digits: 1.. } | Self::Blank { size }, b' ' | b'\t') => Self::Blank { size },
            (Self::Size { size, digits: digits @ ..DIGITS }, _) => {
                Self::Size { size: size << 4 | u64::from(char::from(byte).to_digit(16)?), digits: digits + 1 }
            }
            (Self::Extension { size }, _) if is_text(byte) => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::TrailerStart, b'\r') => Self::LastLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::TrailerStart | Self::Trailer, _) if is_text(byte) => Self::Trailer,
            (Self::TrailerLf, b'\n') => Self::TrailerStart,
            _ => return None,
        };
        Some(place)
    }
}

/// Whether a byte may stand in a line: no control but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
