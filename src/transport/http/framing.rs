//! Where a body ends, by what its head says, and what of the bytes on the way is data. No I/O; made by `head`, driven by
//! `body`.

use super::chunked::Chunked;
pub(super) use super::progress::{Decoded, Progress};

/// What is left to read of a body.
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Whatever comes until the connection closes.
    UntilClose,
}

impl Framing {
    /// Takes the framing off bytes as they came, in place. Not to be called again but after [`Progress::More`].
    pub(super) fn decode(&mut self, buffer: &mut [u8]) -> Decoded {
        match self {
            Self::Length(left) => {
                let data = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= data as u64;
                let progress = match *left {
                    0 if data < buffer.len() => Progress::Surplus,
                    0 => Progress::End,
                    _ => Progress::More,
                };
                Decoded { data: 0..data, read: data, progress }
            }
            Self::Chunked(chunked) => chunked.decode(buffer),
            Self::UntilClose => Decoded { data: 0..buffer.len(), read: buffer.len(), progress: Progress::More },
        }
    }

    /// What it means that the connection closed in order.
    pub(super) fn close(&self) -> Progress {
        match self {
            Self::Length(0) | Self::UntilClose => Progress::End,
            Self::Length(_) | Self::Chunked(_) => Progress::Broken,
        }
    }
}

#[cfg(test)]
mod tests;
