//! Reads a file, and refuses it if another user could have changed it.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::{FileFault, IdentityError};

/// The most that a file of an identity may hold, in bytes. A key takes 119.
const MAX: u64 = 16 * 1024;

/// The content of a file; `None` if it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    let refused = |fault| IdentityError::File { path: path.to_owned(), fault };
    // Checked before it is opened, since opening a pipe would wait for its other end.
    let seen = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    check(path, &seen).map_err(refused)?;
    let file = File::open(path).map_err(unreadable)?;
    let opened = file.metadata().map_err(unreadable)?;
    if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
        return Err(refused(FileFault::Replaced));
    }
    check(path, &opened).map_err(refused)?;
    // All the room at once: a buffer that grows leaves copies of the secret behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX as usize + 1));
    file.take(MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > MAX { Err(refused(FileFault::TooLarge { max: MAX })) } else { Ok(Some(content)) }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), FileFault> {
    check_kind_and_owner(metadata)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileFault::OpenToOthers { mode, path: path.to_owned() });
    }
    if metadata.len() > MAX { Err(FileFault::TooLarge { max: MAX }) } else { Ok(()) }
}

/// Refuses what is not a regular file, and a file of another user.
pub(super) fn check_kind_and_owner(metadata: &Metadata) -> Result<(), FileFault> {
    if metadata.is_symlink() {
        return Err(FileFault::Symlink);
    }
    if !metadata.is_file() {
        return Err(FileFault::NotRegular);
    }
    owned_by_us(metadata.uid(), current_user())
}

/// Refuses a directory of another user, who could replace every file in it. A directory that is not there is not refused.
pub(super) fn check_directory_of(path: &Path) -> Result<(), IdentityError> {
    check_directory(directory(path), current_user())
}

fn check_directory(path: &Path, user: u32) -> Result<(), IdentityError> {
    match path.metadata() {
        Ok(metadata) => {
            owned_by_us(metadata.uid(), user).map_err(|fault| IdentityError::File { path: path.to_owned(), fault })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(IdentityError::Unreadable { path: path.to_owned(), source }),
    }
}

fn current_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Root may use any user's files, and any user may use root's.
fn owned_by_us(owner: u32, user: u32) -> Result<(), FileFault> {
    if owner == user || user == 0 || owner == 0 { Ok(()) } else { Err(FileFault::NotOurs { owner, user }) }
}

/// The directory that a file is in; the current one where its path names none.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path of a file that belongs to another: the same with something at its end.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(end);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_us_or_to_root() {
        assert_eq!(owned_by_us(1000, 1000), Ok(()));
        assert_eq!(owned_by_us(0, 1000), Ok(()));
        assert_eq!(owned_by_us(1000, 0), Ok(()));
        assert_eq!(owned_by_us(1001, 1000), Err(FileFault::NotOurs { owner: 1001, user: 1000 }));
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        if current_user() == 0 {
            std::os::unix::fs::chown(folder.path(), Some(1001), None).unwrap();
        }
        let owner = folder.path().metadata().unwrap().uid();
        for user in [owner, 0] {
            assert!(check_directory(folder.path(), user).is_ok());
        }
        let refused = check_directory(folder.path(), owner + 1);
        let expected = FileFault::NotOurs { owner, user: owner + 1 };
        assert!(matches!(refused, Err(IdentityError::File { fault, .. }) if fault == expected));
        assert!(check_directory(&folder.path().join("missing"), owner + 1).is_ok());
    }
}
