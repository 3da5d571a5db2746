//! The lock that keeps two agents from using one identity.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::{FileFault, IdentityError};
use super::guarded_file::{beside, check_kind_and_owner};

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
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(IdentityError::InUse { path: key.to_owned() }),
            Err(TryLockError::Error(source)) => Err(IdentityError::Unlockable { path, source }),
        }
    }
}

/// Opens the lock's file, and creates it if it does not exist. Refuses what another user can have put there: a symbolic link,
/// which would create or lock its target, a file that is not a regular one, a file of another user.
fn open(path: &Path) -> Result<File, IdentityError> {
    let unlockable = |source| IdentityError::Unlockable { path: path.to_owned(), source };
    let refused = |fault| IdentityError::File { path: path.to_owned(), fault };
    // Without O_NONBLOCK, opening a pipe could wait for its other end.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = match options.open(path) {
        Err(error) if is_link(&error) => return Err(refused(FileFault::Symlink)),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Err(refused(FileFault::NotRegular)),
        opened => opened.map_err(unlockable)?,
    };
    check_kind_and_owner(&file.metadata().map_err(unlockable)?).map_err(refused)?;
    Ok(file)
}

/// Whether O_NOFOLLOW refused to open a symbolic link.
fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}
