//! How far a body is read.

use std::ops::Range;

/// What was decoded of a buffer.
pub(super) struct Decoded {
    /// Where the data lies now.
    pub(super) data: Range<usize>,
    /// How many bytes were read. After [`Progress::More`] the others are to be decoded next.
    pub(super) read: usize,
    /// What is behind the data.
    pub(super) progress: Progress,
}

/// How a body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    More,
    /// It is whole.
    End,
    /// It is whole, and bytes follow that belong to no response.
    Surplus,
    /// It is not what its framing says.
    Broken,
}
