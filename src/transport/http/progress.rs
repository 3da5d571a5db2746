//! How far a body is read.

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
