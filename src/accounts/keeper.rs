//! Writes the rows of the ledger, on a thread of its own.

#![expect(clippy::disallowed_methods, reason = "a thread that waits for the disk lives by the real clock")]

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::database::{Database, Limits};
use super::record::JobRecord;
use crate::messages::ledger::LedgerFault;
use crate::telemetry::Events;
use crate::telemetry::events::{LedgerFailed, LedgerRowsLost, LedgerWorks};

/// The least time between two writes.
pub(super) const PERIOD: Duration = Duration::from_millis(50);
/// When a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often rows that are too old are looked for.
const PRUNE: Duration = Duration::from_secs(3600);
/// Rows after which the size of the file is checked.
const ROWS_UNTIL_PRUNE: usize = 1000;
/// Rows on their way to the thread.
const QUEUE: usize = 4096;
/// Rows that are kept while the file can't be written. Some 5 MiB.
const MOST_PENDING: usize = 16_384;

/// Takes rows. Cheap to clone, for any thread.
#[derive(Clone)]
pub(crate) struct Ledger {
    inputs: SyncSender<Input>,
    lost: Arc<AtomicU64>,
}

enum Input {
    /// Boxed: the queue has its memory from the start.
    Row(Box<JobRecord>),
    /// No rows follow.
    Close(oneshot::Sender<()>),
}

impl Ledger {
    /// Puts a row into the queue. Never waits: a row for which there is no room is lost, which is counted.
    pub(crate) fn record(&self, row: JobRecord) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.inputs.try_send(Input::Row(Box::new(row)))
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the rows before this call written, and ends the thread. Waits for that, but not longer than `limit`.
    pub(crate) async fn close(&self, limit: Duration) {
        let (closed, done) = oneshot::channel();
        if self.inputs.try_send(Input::Close(closed)).is_ok() {
            // There is nothing to do about a disk that does not answer.
            let _ = tokio::time::timeout(limit, done).await;
        }
    }
}

/// The thread's part of a ledger.
pub(crate) struct Keeper {
    inputs: Receiver<Input>,
    book: Book,
}

/// A ledger in this file. It writes nothing before the keeper is started.
pub(crate) fn ledger(path: PathBuf, limits: Limits) -> (Ledger, Keeper) {
    let (inputs, received) = sync_channel(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let book = Book::new(path, limits, Arc::clone(&lost));
    (Ledger { inputs, lost }, Keeper { inputs: received, book })
}

impl Keeper {
    /// Starts the thread. It ends with [`Ledger::close`].
    pub(crate) fn start(self, events: Events) -> io::Result<()> {
        let Self { inputs, mut book } = self;
        let run = move || {
            // Before there are rows, so that an operator learns at the start if the file can't be written.
            book.write(Instant::now(), &events);
            let closed = loop {
                let closed = book.take(&inputs);
                let now = Instant::now();
                if closed.is_some() || now >= book.due {
                    book.write(now, &events);
                }
                if closed.is_some() {
                    break closed;
                }
            };
            // The file is closed first. Who no longer waits needs no word.
            drop(book);
            closed.map(|closed| closed.send(()))
        };
        thread::Builder::new().name("ledger".into()).spawn(run).map(drop)
    }
}

/// The rows that wait, and the file.
struct Book {
    path: PathBuf,
    limits: Limits,
    database: Option<Database>,
    pending: Vec<JobRecord>,
    lost: Arc<AtomicU64>,
    /// When rows that wait are written.
    due: Instant,
    /// Whether the last attempt failed, so that the next success is reported.
    fails: bool,
    prune_at: Instant,
    rows_until_prune: usize,
}

impl Book {
    fn new(path: PathBuf, limits: Limits, lost: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        Self {
            path,
            limits,
            database: None,
            pending: Vec::new(),
            lost,
            due: now,
            fails: false,
            prune_at: now,
            rows_until_prune: ROWS_UNTIL_PRUNE,
        }
    }

    /// Waits until there is an input and rows are due, and takes what there is. Returns whom to tell of the end, if there will be no
    /// more.
    fn take(&mut self, inputs: &Receiver<Input>) -> Option<oneshot::Sender<()>> {
        let wait = |until: Instant| until.saturating_duration_since(Instant::now());
        // Without rows nothing is due, but for rows that are too old.
        let first = if self.pending.is_empty() { inputs.recv_timeout(wait(self.prune_at)).ok() } else { None };
        // Not a wait at the queue: each row would wake this thread. At most a period, so that an end is noticed while the disk fails.
        thread::sleep(wait(self.due).min(PERIOD));
        // Not for ever, where rows come faster than they are taken.
        for input in first.into_iter().chain(inputs.try_iter().take(QUEUE)) {
            match input {
                Input::Row(row) => self.add(*row),
                Input::Close(closed) => return Some(closed),
            }
        }
        None
    }

    fn add(&mut self, row: JobRecord) {
        if self.pending.len() < MOST_PENDING {
            self.pending.push(row);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, now: Instant, events: &Events) {
        match self.try_write(now) {
            Ok(()) => {
                self.due = now + PERIOD;
                if std::mem::take(&mut self.fails) {
                    events.emit(LedgerWorks);
                }
            }
            Err(cause) => {
                self.due = now + RETRY;
                if !std::mem::replace(&mut self.fails, true) {
                    events.emit(LedgerFailed { path: self.path.clone(), cause });
                }
            }
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            events.emit(LedgerRowsLost { rows: lost });
        }
    }

    fn try_write(&mut self, now: Instant) -> Result<(), LedgerFault> {
        let Self { path, limits, database, pending, .. } = self;
        let database = match database {
            Some(database) => database,
            None => database.insert(Database::open(path, *limits)?),
        };
        let result = if pending.is_empty() { Ok(()) } else { database.insert(pending) };
        let result = result.and_then(|()| {
            self.rows_until_prune = self.rows_until_prune.saturating_sub(self.pending.len());
            self.pending.clear();
            self.pending.shrink_to(ROWS_UNTIL_PRUNE);
            if now < self.prune_at && self.rows_until_prune > 0 {
                return Ok(());
            }
            (self.prune_at, self.rows_until_prune) = (now + PRUNE, ROWS_UNTIL_PRUNE);
            database.prune(SystemTime::now())
        });
        if result.is_err() {
            // The file may have been replaced: the next attempt opens it anew.
            self.database = None;
        }
        result
    }
}

#[cfg(test)]
mod tests;
