use std::os::unix::fs::PermissionsExt;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use super::*;
use crate::accounts::record::tests::done;
use crate::accounts::usage::{Grouping, Usage};

const LIMITS: Limits = Limits { age: Duration::from_secs(1000), size: 1 << 30 };

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The time that many milliseconds after 1970.
fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

fn jobs(path: &Path) -> u64 {
    Usage::open(path).unwrap().unwrap().by(Grouping::Model, UNIX_EPOCH).unwrap().1.jobs
}

#[test]
fn rows_are_there_after_the_file_was_opened_again() {
    let folder = folder();
    let path = folder.path().join("ledger");
    for _ in 0..2 {
        let mut database = Database::open(&path, LIMITS).unwrap();
        database.insert(&[done(1, "a", 2, 3), done(2, "b", 4, 5)]).unwrap();
    }
    assert_eq!(jobs(&path), 4);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn jobs_that_end_in_the_same_moment_all_have_rows() {
    let folder = folder();
    let path = folder.path().join("ledger");
    let mut database = Database::open(&path, LIMITS).unwrap();
    let rows = vec![done(7, "m", 1, 1); 50];
    database.insert(&rows).unwrap();
    database.insert(&rows).unwrap();
    assert_eq!(jobs(&path), 100);
}

#[test]
fn a_reader_sees_rows_while_the_file_is_open_to_write() {
    let folder = folder();
    let path = folder.path().join("ledger");
    let mut database = Database::open(&path, LIMITS).unwrap();
    assert_eq!(jobs(&path), 0);
    database.insert(&[done(1, "a", 2, 3)]).unwrap();
    assert_eq!(jobs(&path), 1);
}

#[test]
fn rows_that_are_too_old_are_removed() {
    let folder = folder();
    let path = folder.path().join("ledger");
    let mut database = Database::open(&path, LIMITS).unwrap();
    database.insert(&[done(4_999, "old", 1, 1), done(5_000, "new", 1, 1)]).unwrap();
    database.prune(at(1_005_000)).unwrap();
    let (rows, _) = Usage::open(&path).unwrap().unwrap().by(Grouping::Model, UNIX_EPOCH).unwrap();
    assert_eq!(rows.iter().map(|row| row.group.as_str()).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn a_file_that_is_too_large_loses_its_oldest_rows_and_shrinks() {
    let folder = folder();
    let path = folder.path().join("ledger");
    let mut database = Database::open(&path, Limits { size: 1 << 20, ..LIMITS }).unwrap();
    for batch in 0..20 {
        let rows: Vec<_> = (0..1000).map(|row| done(batch * 1000 + row, "m", 1, 1)).collect();
        database.insert(&rows).unwrap();
    }
    let before = jobs(&path);
    database.prune(at(0)).unwrap();
    assert!(database.used_bytes().unwrap() <= 1 << 20);
    let after = jobs(&path);
    assert!(after >= 1000 && after < before, "{after} of {before}");
    let newest = Usage::open(&path).unwrap().unwrap().by(Grouping::Model, at(19_000)).unwrap().1.jobs;
    assert_eq!(newest, 1000);
    drop(database);
    // The write-ahead log is gone with the last connection, and the room was given back.
    assert!(path.metadata().unwrap().len() <= 1 << 20);
}

#[test]
fn a_file_of_a_newer_version_is_neither_written_nor_read() {
    let folder = folder();
    let path = folder.path().join("ledger");
    Database::open(&path, LIMITS).unwrap().connection.pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(Database::open(&path, LIMITS).err(), Some(LedgerFault::Newer));
    assert_eq!(Usage::open(&path).err(), Some(LedgerFault::Newer));
}

#[test]
fn a_file_that_is_no_ledger_is_left_as_it_is() {
    let folder = folder();
    let path = folder.path().join("ledger");
    let text = "my diary ".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(Database::open(&path, LIMITS).err(), Some(LedgerFault::Broken));
    assert_eq!(Usage::open(&path).err(), Some(LedgerFault::Broken));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn without_a_directory_there_is_no_ledger() {
    let folder = folder();
    let path = folder.path().join("none/ledger");
    assert_eq!(Database::open(&path, LIMITS).err(), Some(LedgerFault::NotAccessible));
    assert!(Usage::open(&path).unwrap().is_none());
}
