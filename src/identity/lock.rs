//! The lock that keeps two agents from using one identity.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::IdentityError;
use super::guarded_file::beside;

/// Held as long as it lives, and given up by the system when the process ends in whatever way. The file itself stays:
/// to remove it would let two processes lock two files of the same name.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a key's file, or says that it is taken.
    pub(super) fn take(key: &Path) -> Result<Self, IdentityError> {
        let path = beside(key, ".lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|source| IdentityError::Unlockable { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(IdentityError::InUse { path: key.to_owned() }),
            Err(TryLockError::Error(source)) => Err(IdentityError::Unlockable { path, source }),
        }
    }
}
