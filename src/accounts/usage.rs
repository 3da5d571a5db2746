//! What was worked and earned: sums over the rows of the ledger.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::database::{fault, open_to_read};
use super::record::millis;
use crate::messages::ledger::LedgerFault;

/// What the rows of a table of usage stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Grouping {
    /// Models.
    Model,
    /// Backends. Jobs that never had a slot are in a group without a name.
    Backend,
    /// Days, in the time zone of this machine.
    Day,
    /// Outcomes, and causes of those that were not done.
    Outcome,
    /// Coordinators.
    Coordinator,
}

/// The jobs of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct UsageRow {
    /// The name of the group: a model, say.
    pub(crate) group: String,
    /// Jobs that were accepted and ended.
    pub(crate) jobs: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    /// Tokens of the prompts of jobs done.
    pub(crate) input_tokens: u64,
    /// Those of them that backends read from their caches, as far as they report it.
    pub(crate) cached_tokens: u64,
    pub(crate) output_tokens: u64,
    /// By the offered prices, in billionths of a USD.
    pub(crate) earned_nano: u64,
}

/// A ledger that is read.
pub(crate) struct Usage {
    connection: Connection,
}

impl Usage {
    /// Opens a ledger. `None`: there is none in this place. The agent may go on writing it.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, LedgerFault> {
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(Self { connection: open_to_read(path)? }))
    }

    /// The groups of jobs that ended since then, in the order of their names; the sum of all last, with an empty name.
    pub(crate) fn by(&self, grouping: Grouping, since: SystemTime) -> Result<(Vec<UsageRow>, UsageRow), LedgerFault> {
        let group = match grouping {
            Grouping::Model => "model",
            Grouping::Backend => "coalesce(backend, '')",
            Grouping::Day => "date(ended_at_ms / 1000, 'unixepoch', 'localtime')",
            Grouping::Outcome => "outcome || coalesce(': ' || cause, '')",
            Grouping::Coordinator => "coordinator",
        };
        let since = millis(since.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO));
        let rows = self.rows(group, "GROUP BY 1 ORDER BY 1", since).map_err(fault)?;
        let total = self.rows("''", "", since).map_err(fault)?.pop().unwrap_or_default();
        Ok((rows, total))
    }

    fn rows(&self, group: &str, end: &str, since: i64) -> rusqlite::Result<Vec<UsageRow>> {
        let sql = format!(
            "SELECT {group}, count(*), coalesce(sum(outcome = 'done'), 0), coalesce(sum(outcome = 'failed'), 0),
                coalesce(sum(outcome = 'cancelled'), 0), coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0),
                coalesce(sum(output_tokens), 0), coalesce(sum(earned_nano), 0)
             FROM jobs WHERE ended_at_ms >= ?1 {end}"
        );
        self.connection.prepare(&sql)?.query_map([since], row)?.collect()
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    let count = |at: usize| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or_default());
    Ok(UsageRow {
        group: row.get(0)?,
        jobs: count(1)?,
        done: count(2)?,
        failed: count(3)?,
        cancelled: count(4)?,
        input_tokens: count(5)?,
        cached_tokens: count(6)?,
        output_tokens: count(7)?,
        earned_nano: count(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::database::{Database, Limits};
    use crate::accounts::record::JobRecord;
    use crate::accounts::record::tests::done;

    fn usage(rows: &[JobRecord]) -> (tempfile::TempDir, Usage) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let limits = Limits { age: Duration::from_secs(1 << 40), size: 1 << 30 };
        Database::open(&path, limits).unwrap().insert(rows).unwrap();
        let usage = Usage::open(&path).unwrap().unwrap();
        (folder, usage)
    }

    fn groups(usage: &Usage, grouping: Grouping) -> Vec<(String, u64)> {
        let (rows, total) = usage.by(grouping, UNIX_EPOCH).unwrap();
        assert_eq!(rows.iter().map(|row| row.jobs).sum::<u64>(), total.jobs);
        rows.into_iter().map(|row| (row.group, row.jobs)).collect()
    }

    #[test]
    fn jobs_are_summed_by_model() {
        let mut cached = done(2, "a", 100, 20);
        cached.tokens.cached = Some(60);
        let failed = JobRecord { outcome: "failed", cause: Some("late"), ..done(3, "a", 0, 0) };
        let (_folder, usage) = usage(&[done(1, "b", 5, 6), cached, failed, done(4, "a", 1000, 200)]);
        let (rows, total) = usage.by(Grouping::Model, UNIX_EPOCH).unwrap();
        let row = UsageRow {
            group: "a".into(),
            jobs: 3,
            done: 2,
            failed: 1,
            cancelled: 0,
            input_tokens: 1100,
            cached_tokens: 60,
            output_tokens: 220,
            earned_nano: 1100 * 500 + 220 * 750,
        };
        assert_eq!(rows[0], row);
        assert_eq!((rows.len(), total.jobs, total.input_tokens), (2, 4, 1105));
    }

    #[test]
    fn jobs_before_the_time_do_not_count() {
        let (_folder, usage) = usage(&[done(999, "m", 1, 1), done(1000, "m", 1, 1)]);
        assert_eq!(usage.by(Grouping::Model, UNIX_EPOCH + Duration::from_secs(1)).unwrap().1.jobs, 1);
    }

    #[test]
    fn every_grouping_covers_every_job() {
        let waited = JobRecord { outcome: "failed", cause: Some("late"), backend: None, ..done(1, "m", 0, 0) };
        let (_folder, usage) = usage(&[waited, done(24 * 3600 * 1000 * 3, "m", 1, 1)]);
        assert_eq!(groups(&usage, Grouping::Backend), [(String::new(), 1), ("ollama".into(), 1)]);
        assert_eq!(groups(&usage, Grouping::Outcome), [("done".into(), 1), ("failed: late".into(), 1)]);
        assert_eq!(groups(&usage, Grouping::Coordinator), [("coordinator.example:443".into(), 2)]);
        assert_eq!(groups(&usage, Grouping::Day).len(), 2);
    }

    #[test]
    fn an_empty_ledger_has_sums_of_zero() {
        let (_folder, usage) = usage(&[]);
        assert_eq!(usage.by(Grouping::Day, UNIX_EPOCH).unwrap(), (vec![], UsageRow::default()));
    }

    #[test]
    fn sums_of_absurd_figures_do_not_overflow() {
        let absurd: Vec<JobRecord> = (0..2000).map(|at| done(at, "m", u64::MAX, u64::MAX)).collect();
        let (_folder, usage) = usage(&absurd);
        assert_eq!(usage.by(Grouping::Model, UNIX_EPOCH).unwrap().1.input_tokens, 2000 << 40);
    }
}
