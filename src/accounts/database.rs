//! The SQLite file of the ledger: its tables, the writes, and the bounds on its size and age.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

use super::record::{JobRecord, counted, micros, millis};
use crate::messages::ledger::LedgerFault;

/// The version of the tables, in the file's `user_version`. Each step of [`MIGRATIONS`] leads to the next one.
const VERSION: usize = MIGRATIONS.len();
/// How long another process is waited for.
const BUSY: Duration = Duration::from_secs(1);
/// Rows that are removed at once where the file is too large.
const PRUNED_AT_ONCE: i64 = 1000;

const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE jobs (
        ended_at_us   INTEGER PRIMARY KEY,
        job           TEXT NOT NULL,
        coordinator   TEXT NOT NULL,
        model         TEXT NOT NULL,
        endpoint      TEXT NOT NULL,
        backend       TEXT,
        outcome       TEXT NOT NULL,
        cause         TEXT,
        first_byte_ms INTEGER,
        total_ms      INTEGER NOT NULL,
        input_tokens  INTEGER NOT NULL,
        cached_tokens INTEGER,
        output_tokens INTEGER NOT NULL,
        input_per_1m  INTEGER,
        output_per_1m INTEGER,
        earned_nano   INTEGER NOT NULL
    ) STRICT;
"];

/// The bounds of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Older rows are removed.
    pub(crate) age: Duration,
    /// The oldest rows are removed where the file would be larger, in bytes.
    pub(crate) size: u64,
}

/// An open ledger.
pub(super) struct Database {
    connection: Connection,
    limits: Limits,
}

impl Database {
    /// Opens the file to write, creates it with mode 0600, and brings its tables up to date.
    pub(super) fn open(path: &Path, limits: Limits) -> Result<Self, LedgerFault> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => LedgerFault::DiskFull,
            _ => LedgerFault::NotAccessible,
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
        let mut database = Self { connection, limits };
        database.prepare().map_err(fault)??;
        Ok(database)
    }

    fn prepare(&mut self) -> rusqlite::Result<Result<(), LedgerFault>> {
        let connection = &mut self.connection;
        connection.busy_timeout(BUSY)?;
        // Takes effect where there are no tables yet.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Each commit is on the disk when it returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = version(&transaction)?;
        if version > VERSION {
            return Ok(Err(LedgerFault::Newer));
        }
        for step in MIGRATIONS.iter().skip(version) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", VERSION as i64)?;
        transaction.commit()?;
        Ok(Ok(()))
    }

    /// Writes rows, all or none. They are on the disk when it returns.
    pub(super) fn insert(&mut self, rows: &[JobRecord]) -> Result<(), LedgerFault> {
        self.try_insert(rows).map_err(fault)
    }

    fn try_insert(&mut self, rows: &[JobRecord]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut insert = transaction.prepare_cached(
            "INSERT OR IGNORE INTO jobs (ended_at_us, job, coordinator, model, endpoint, backend, outcome, cause, first_byte_ms, total_ms,
                input_tokens, cached_tokens, output_tokens, input_per_1m, output_per_1m, earned_nano)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?;
        for row in rows {
            let (mut ended_at_us, job) = (row.ended_at_us, row.job.to_string());
            // Two jobs may end in the same microsecond: the later one gets the next that is free.
            while insert.execute(params![
                ended_at_us,
                job,
                row.coordinator,
                row.model.as_str(),
                row.endpoint.path(),
                row.backend.as_ref().map(|backend| backend.as_str()),
                row.outcome,
                row.cause,
                row.first_byte.map(millis),
                millis(row.total),
                counted(row.tokens.input),
                row.tokens.cached.map(counted),
                counted(row.tokens.output),
                row.price.map(|price| counted(price.input_per_1m)),
                row.price.map(|price| counted(price.output_per_1m)),
                row.earned_nano(),
            ])? == 0
            {
                ended_at_us += 1;
            }
        }
        drop(insert);
        transaction.commit()
    }

    /// Removes the rows that are beyond the limits, and gives their room back.
    pub(super) fn prune(&mut self, now: SystemTime) -> Result<(), LedgerFault> {
        self.try_prune(now).map_err(fault)
    }

    fn try_prune(&mut self, now: SystemTime) -> rusqlite::Result<()> {
        let oldest = now.checked_sub(self.limits.age).map(micros).unwrap_or_default();
        self.connection.execute("DELETE FROM jobs WHERE ended_at_us < ?1", [oldest])?;
        let most = i64::try_from(self.limits.size).unwrap_or(i64::MAX);
        while self.used_bytes()? > most {
            let sql = "DELETE FROM jobs WHERE ended_at_us IN (SELECT ended_at_us FROM jobs ORDER BY 1 LIMIT ?1)";
            if self.connection.execute(sql, [PRUNED_AT_ONCE])? == 0 {
                break;
            }
        }
        // The statement frees a page with each step.
        let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }

    /// Bytes of the file that are in use.
    fn used_bytes(&self) -> rusqlite::Result<i64> {
        let figure = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((figure("page_count")? - figure("freelist_count")?) * figure("page_size")?)
    }
}

/// The version of the tables of a file.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A negative one is none of ours.
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// Opens a ledger to read. The agent may go on writing it.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, LedgerFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    match version(&connection).map_err(fault)? {
        VERSION => Ok(connection),
        0 => Err(LedgerFault::Broken),
        _ => Err(LedgerFault::Newer),
    }
}

/// What an error of SQLite means for an operator.
pub(super) fn fault(error: rusqlite::Error) -> LedgerFault {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LedgerFault::DiskFull,
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => LedgerFault::NotAccessible,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => LedgerFault::Broken,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerFault::Busy,
        _ => LedgerFault::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
