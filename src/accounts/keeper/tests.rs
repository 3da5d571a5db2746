use std::sync::Mutex;

use super::*;
use crate::accounts::record::tests::done;
use crate::accounts::usage::{Grouping, Usage};
use crate::telemetry::Event;

const LIMITS: Limits = Limits { age: Duration::from_secs(400 * 24 * 3600), size: 1 << 30 };

/// Events, and what came of them.
fn events() -> (Events, Arc<Mutex<Vec<&'static str>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&seen);
    let events = Events::new(move |event| {
        to.lock().unwrap().push(match event {
            Event::LedgerFailed(_) => "failed",
            Event::LedgerWorks(_) => "works",
            Event::LedgerRowsLost(_) => "lost",
            _ => "another",
        });
    });
    (events, seen)
}

fn now_ms() -> i64 {
    crate::accounts::record::millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

fn jobs(path: &std::path::Path) -> u64 {
    Usage::open(path).unwrap().unwrap().by(Grouping::Model, SystemTime::UNIX_EPOCH).unwrap().1.jobs
}

#[tokio::test]
async fn what_was_recorded_is_in_the_file_when_the_ledger_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let (ledger, keeper) = ledger(path.clone(), LIMITS);
    let (events, seen) = events();
    keeper.start(events).unwrap();
    for _ in 0..1000 {
        ledger.record(done(now_ms(), "m", 1, 1));
    }
    ledger.close(Duration::from_secs(60)).await;
    assert_eq!(jobs(&path), 1000);
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn rows_wait_while_the_file_can_not_be_written_and_are_written_then() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let path = home.join("ledger");
    let (events, seen) = events();
    let mut book = Book::new(path.clone(), LIMITS, Arc::default());
    let start = Instant::now();
    book.write(start, &events);
    for _ in 0..3 {
        book.add(done(now_ms(), "m", 1, 1));
        book.write(start, &events);
    }
    assert_eq!(*seen.lock().unwrap(), ["failed"], "once");
    assert_eq!(book.due, start + RETRY);
    std::fs::create_dir(&home).unwrap();
    book.write(start + RETRY, &events);
    assert_eq!(*seen.lock().unwrap(), ["failed", "works"]);
    assert_eq!(jobs(&path), 3);
    assert_eq!(book.due, start + RETRY + PERIOD);
}

#[test]
fn the_rows_that_wait_are_bounded_and_the_others_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (events, seen) = events();
    let lost = Arc::new(AtomicU64::new(0));
    let mut book = Book::new(folder.path().join("none/ledger"), LIMITS, Arc::clone(&lost));
    for _ in 0..MOST_PENDING + 7 {
        book.add(done(1, "m", 1, 1));
    }
    assert_eq!((book.pending.len(), lost.load(Ordering::Relaxed)), (MOST_PENDING, 7));
    book.write(Instant::now(), &events);
    assert_eq!(*seen.lock().unwrap(), ["failed", "lost"]);
}

#[test]
fn a_row_for_which_the_queue_has_no_room_is_lost_without_a_wait() {
    let (ledger, keeper) = ledger("unused".into(), LIMITS);
    for _ in 0..QUEUE + 3 {
        ledger.record(done(1, "m", 1, 1));
    }
    assert_eq!(keeper.book.lost.load(Ordering::Relaxed), 3);
}
