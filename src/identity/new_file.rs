//! Puts a file in its place in one step: written and synced under another name first, so that what is under its own name
//! is at every instant complete, old or new.
//!
//! A process that is killed leaves at most a file of that other name behind, which [`clean_up`] knows by it. Callers hold
//! the identity's lock.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::guarded_file::directory;

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is replaced.
    Replace,
    /// It stays, and the new one is not put in its place.
    Keep,
}

/// Puts a file in its place, readable by its owner only.
pub(super) fn place(path: &Path, content: &[u8], existing: Existing) -> io::Result<()> {
    place_with(path, existing, |file| {
        file.write_all(content)?;
        file.sync_all()
    })
}

/// The same, with a function that fills the file.
fn place_with(path: &Path, existing: Existing, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut draft = Draft::create(path)?;
    fill(&mut draft.file)?;
    match existing {
        Existing::Replace => fs::rename(&draft.path, path)?,
        // Unlike a rename, a link never replaces. The draft's own name goes when the draft does.
        Existing::Keep => link(&draft.path, path)?,
    }
    drop(draft);
    File::open(directory(path))?.sync_all()
}

/// Gives a file a second name, or, on a file system that has no second names, another one.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && to.symlink_metadata().is_err() => {
            fs::rename(from, to)
        }
        result => result,
    }
}

/// A file under a temporary name. It is removed when this is dropped.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut draft = affixes(name).0;
        draft.push(format!("{:016x}{TAIL}", rand::random::<u64>()));
        let path = directory(target).join(draft);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has moved, or it is of no use; where it can't be removed, the next start does it.
        let _ = fs::remove_file(&self.path);
    }
}

const TAIL: &str = ".tmp";

/// What a draft's name starts with, and how many bytes follow.
fn affixes(name: &OsStr) -> (std::ffi::OsString, usize) {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    (prefix, 16 + TAIL.len())
}

/// Removes what killed processes left behind of their attempts to place this file.
pub(super) fn clean_up(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let (prefix, rest) = affixes(name);
    let is_draft = |name: &OsStr| {
        let tail = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let digits = tail.filter(|tail| tail.len() == rest).and_then(|tail| tail.strip_suffix(TAIL.as_bytes()));
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        if is_draft(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the directory of a file and those above it, for their owner only, and durable.
pub(super) fn make_directory_of(path: &Path) -> io::Result<()> {
    let directory = directory(path);
    let missing: Vec<&Path> =
        directory.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    missing.into_iter().try_for_each(|made| File::open(super::guarded_file::directory(made))?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_for_its_owner_only_and_alone_in_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for existing in [Existing::Keep, Existing::Replace] {
            place(&path, b"text", existing).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"text");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(names(folder.path()), ["a"]);
        }
    }

    #[test]
    fn a_draft_is_for_its_owner_only_before_anything_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let check = |file: &mut File| {
            let metadata = file.metadata()?;
            assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (0o600, 0));
            Ok(())
        };
        place_with(&folder.path().join("a"), Existing::Keep, check).unwrap();
    }

    #[test]
    fn a_file_that_is_to_be_kept_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        assert_eq!(place(&path, b"new", Existing::Keep).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        for existing in [Existing::Keep, Existing::Replace] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a");
            let full = |file: &mut File| {
                file.write_all(b"ne")?;
                Err(io::ErrorKind::StorageFull.into())
            };
            let error = place_with(&path, existing, full).unwrap_err();
            assert_eq!((error.kind(), names(folder.path()).len()), (io::ErrorKind::StorageFull, 0));
            fs::write(&path, "old").unwrap();
            place_with(&path, existing, full).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(names(folder.path()), ["a"]);
        }
    }

    #[test]
    fn until_it_is_complete_a_file_is_not_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let look = |file: &mut File| {
            file.write_all(b"new")?;
            assert_eq!(fs::read(&path)?, b"old");
            file.sync_all()
        };
        place_with(&path, Existing::Replace, look).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn only_left_behind_drafts_of_the_same_file_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let stay = [".a.0123456789abcdef", ".a.0123456789abcdeg.tmp", ".a.b.0123456789abcdef.tmp", ".a.tmp", "a"];
        for name in stay.into_iter().chain([".a.0123456789abcdef.tmp"]) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        clean_up(&folder.path().join("a")).unwrap();
        assert_eq!(names(folder.path()), stay);
    }

    #[test]
    fn directories_are_made_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        make_directory_of(&folder.path().join("x/y/a")).unwrap();
        for made in ["x", "x/y"] {
            assert_eq!(folder.path().join(made).metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        make_directory_of(Path::new("a")).unwrap();
    }
}
