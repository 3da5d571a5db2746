//! What was worked and earned: sums over the rows of the ledger.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::database::{fault, open_to_read};
use super::record::micros;
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

/// The jobs that ended in one part of a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    /// When it begins, in seconds since 1970.
    pub(crate) start_s: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// By the offered prices, in billionths of a USD.
    pub(crate) earned_nano: u64,
    /// The median of the times to the first byte.
    pub(crate) first_byte_p50_ms: Option<u64>,
    /// Their 95th percentile.
    pub(crate) first_byte_p95_ms: Option<u64>,
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

    /// The groups of jobs that ended since then, in the order of their names; and their sum, with an empty name.
    pub(crate) fn by(&self, grouping: Grouping, since: SystemTime) -> Result<(Vec<UsageRow>, UsageRow), LedgerFault> {
        let group = match grouping {
            Grouping::Model => "model",
            Grouping::Backend => "coalesce(backend, '')",
            Grouping::Day => "date(ended_at_us / 1000000, 'unixepoch', 'localtime')",
            Grouping::Outcome => "outcome || coalesce(': ' || cause, '')",
            Grouping::Coordinator => "coordinator",
        };
        let rows = self.rows(group, micros(since)).map_err(fault)?;
        let total = rows.iter().fold(UsageRow::default(), UsageRow::plus);
        Ok((rows, total))
    }

    /// The last `count` buckets up to now, the oldest first, also those without jobs. They begin at multiples of their length.
    pub(crate) fn history(&self, now: SystemTime, bucket: Duration, count: u32) -> Result<Vec<Bucket>, LedgerFault> {
        let length = i64::try_from(bucket.as_micros()).unwrap_or(i64::MAX).max(1);
        let last = micros(now) / length;
        let first = (last + 1 - i64::from(count)).max(0);
        let start_s = |at: i64| u64::try_from(at * length / 1_000_000).unwrap_or_default();
        let mut buckets: Vec<Bucket> =
            (first..=last).map(|at| Bucket { start_s: start_s(at), ..Bucket::default() }).collect();
        for (at, found) in self.buckets(length, first * length).map_err(fault)? {
            // None is for a job of the future: the clock was set back.
            if let Some(bucket) = usize::try_from(at - first).ok().and_then(|at| buckets.get_mut(at)) {
                *bucket = Bucket { start_s: bucket.start_s, ..found };
            }
        }
        Ok(buckets)
    }

    /// The buckets of that length which have jobs, by number.
    fn buckets(&self, length: i64, since: i64) -> rusqlite::Result<Vec<(i64, Bucket)>> {
        let sql = "
            WITH ranked AS (
                SELECT ended_at_us / ?1 AS bucket, outcome, input_tokens, output_tokens, earned_nano, first_byte_ms,
                    row_number() OVER by_time AS place, count(first_byte_ms) OVER in_bucket AS times
                FROM jobs WHERE ended_at_us >= ?2
                WINDOW in_bucket AS (PARTITION BY ended_at_us / ?1),
                    by_time AS (PARTITION BY ended_at_us / ?1 ORDER BY first_byte_ms NULLS LAST)
            )
            SELECT bucket, sum(outcome = 'done'), sum(outcome = 'failed'), sum(outcome = 'cancelled'), sum(input_tokens),
                sum(output_tokens), sum(earned_nano),
                max(first_byte_ms) FILTER (WHERE place * 100 < times * 50 + 100),
                max(first_byte_ms) FILTER (WHERE place * 100 < times * 95 + 100)
            FROM ranked GROUP BY bucket";
        let row = |row: &Row<'_>| {
            let count = |at| Ok::<_, rusqlite::Error>(figure(row, at)?.unwrap_or_default());
            let bucket = Bucket {
                start_s: 0,
                done: count(1)?,
                failed: count(2)?,
                cancelled: count(3)?,
                input_tokens: count(4)?,
                output_tokens: count(5)?,
                earned_nano: count(6)?,
                first_byte_p50_ms: figure(row, 7)?,
                first_byte_p95_ms: figure(row, 8)?,
            };
            Ok((row.get(0)?, bucket))
        };
        self.connection.prepare(sql)?.query_map([length, since], row)?.collect()
    }

    fn rows(&self, group: &str, since: i64) -> rusqlite::Result<Vec<UsageRow>> {
        let sql = format!(
            "SELECT {group}, count(*), sum(outcome = 'done'), sum(outcome = 'failed'), sum(outcome = 'cancelled'),
                sum(input_tokens), sum(cached_tokens), sum(output_tokens), sum(earned_nano)
             FROM jobs WHERE ended_at_us >= ?1 GROUP BY 1 ORDER BY 1"
        );
        let row = |row: &Row<'_>| {
            let count = |at| Ok::<_, rusqlite::Error>(figure(row, at)?.unwrap_or_default());
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
        };
        self.connection.prepare(&sql)?.query_map([since], row)?.collect()
    }
}

impl UsageRow {
    /// The sum of two groups, without a name.
    fn plus(self, other: &Self) -> Self {
        Self {
            group: String::new(),
            jobs: self.jobs + other.jobs,
            done: self.done + other.done,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            earned_nano: self.earned_nano.saturating_add(other.earned_nano),
        }
    }
}

/// A figure of a row; `None` for NULL.
fn figure(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    let figure: Option<i64> = row.get(at)?;
    Ok(figure.and_then(|figure| u64::try_from(figure).ok()))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

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
    fn the_past_is_in_buckets_also_those_without_jobs() {
        let minute = Duration::from_secs(60);
        let at = |seconds: i64, first_byte: u64| JobRecord {
            first_byte: Some(Duration::from_millis(first_byte)),
            ..done(seconds * 1000, "m", 10, 100)
        };
        let mut rows: Vec<JobRecord> = (1..=100).map(|ms| at(119, ms)).collect();
        let waited = JobRecord { outcome: "failed", first_byte: None, ..done(119_000, "m", 0, 0) };
        rows.extend([at(59, 7), at(60, 8), waited, at(500, 9)]);
        let (_folder, usage) = usage(&rows);
        let buckets = usage.history(UNIX_EPOCH + Duration::from_secs(190), minute, 3).unwrap();
        assert_eq!(buckets.iter().map(|bucket| bucket.start_s).collect::<Vec<_>>(), [60, 120, 180]);
        let first = Bucket {
            start_s: 60,
            done: 101,
            failed: 1,
            cancelled: 0,
            input_tokens: 1010,
            output_tokens: 10_100,
            earned_nano: 101 * (10 * 500 + 100 * 750),
            first_byte_p50_ms: Some(50),
            first_byte_p95_ms: Some(95),
        };
        assert_eq!(buckets[0], first);
        assert_eq!(buckets[1], Bucket { start_s: 120, ..Bucket::default() });
        let single = usage.history(UNIX_EPOCH + Duration::from_secs(59), minute, 3).unwrap();
        assert_eq!((single.len(), single[0].first_byte_p50_ms, single[0].first_byte_p95_ms), (1, Some(7), Some(7)));
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
