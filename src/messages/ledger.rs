//! What can be wrong with the ledger of ended jobs.

/// Why rows can't be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// There is no room for them.
    #[error("the disk is full")]
    DiskFull,
    /// The file, or its directory, is not there or not for this user.
    #[error(
        "the file can't be opened or written: check that its directory exists and belongs to the user of the agent"
    )]
    NotAccessible,
    /// The file is not a database, or a broken one.
    #[error("the file is broken or not a ledger: move it away, and a new one is made")]
    Broken,
    /// A later version of the program wrote it.
    #[error("the file was written by a newer version of outpost: use that version, or move the file away")]
    Newer,
    /// Another process has held it for too long.
    #[error("another process holds the file")]
    Busy,
    /// The disk fails, or something unexpected.
    #[error("{0}")]
    Other(String),
}
