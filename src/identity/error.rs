//! Why an identity can't be used, with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::messages::ids::IdError;

/// Why an identity can't be used. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It does not exist, and was not to be created.
    #[error("there is no identity at {}; the first run makes one", path.display())]
    Missing {
        /// The path of the missing file.
        path: PathBuf,
    },
    /// A file is not what it must be. It is left as it is.
    #[error("{} can't be used: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// A file holds no usable key. It is left as it is.
    #[error("{} holds no usable key: {fault}; restore it from a backup, or move it away for a new identity", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        fault: KeyFault,
    },
    /// A file holds no provider id. It is left as it is.
    #[error("{} holds no provider id: {fault}; delete it to enroll anew", path.display())]
    ProviderId {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        fault: IdError,
    },
    /// Another process works with the same identity.
    #[error("another agent uses the identity {}", path.display())]
    InUse {
        /// The key's file.
        path: PathBuf,
    },
    /// A file can't be read.
    #[error("{} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file can't be written. An old one is as it was.
    #[error("{} can't be written: {source}", path.display())]
    Unwritable {
        /// The file, or the directory it was to be made in.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An earlier write of the file has not come back from the disk.
    #[error("{} is still being written: the disk does not answer", path.display())]
    StillWriting {
        /// The file.
        path: PathBuf,
    },
    /// The lock can neither be had nor found to be held.
    #[error("{} can't be locked: {source}", path.display())]
    Unlockable {
        /// The lock's file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system has no random numbers for a key.
    #[error("no random numbers for a new key: {0}")]
    NoRandomness(rand::rngs::SysError),
    /// The identity was opened read-only, without its lock, and must not be changed.
    #[error("the identity {} was opened read-only, so it can't be changed", path.display())]
    OnlyLookedAt {
        /// The key's file.
        path: PathBuf,
    },
}

/// What makes a file unfit to hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// A symbolic link, whose target another user may change.
    #[error("it is a symbolic link; name the file that it leads to")]
    Symlink,
    /// A directory, a pipe, a device.
    #[error("it is not a regular file")]
    NotRegular,
    /// Others may read or write it.
    #[error("others have access to it (mode {mode:04o}); run: chmod 600 {}", path.display())]
    OpenToOthers {
        /// Its permission bits.
        mode: u32,
        /// The file.
        path: PathBuf,
    },
    /// Neither this user nor root owns it.
    #[error("it belongs to user {owner}, not to user {user}, who runs this")]
    NotOurs {
        /// The owner's number.
        owner: u32,
        /// This user's number.
        user: u32,
    },
    /// More in it than belongs there.
    #[error("it is larger than {max} bytes")]
    TooLarge {
        /// The most it may hold, in bytes.
        max: u64,
    },
    /// Another file took its place just now.
    #[error("it was replaced while it was opened")]
    Replaced,
}

/// What makes a text no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Not PEM, or cut off, or damaged.
    #[error("it is not complete PEM text")]
    NotPem,
    /// PEM of something else than a PKCS#8 private key.
    #[error("it is PEM of something else than a 'PRIVATE KEY'")]
    NotAPrivateKey,
    /// A private key behind a password.
    #[error("it is encrypted; decrypt it with: openssl pkey")]
    Encrypted,
    /// A private key for something else than ed25519.
    #[error("it is a key of another type than ed25519")]
    OtherAlgorithm,
    /// The bytes within are damaged.
    #[error("the key in it is damaged")]
    Damaged,
    /// The public key within does not belong to the private one.
    #[error("the public key in it does not belong to the private key")]
    Mismatch,
}
