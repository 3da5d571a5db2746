//! A row of the ledger.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{BackendId, JobId, ModelId};
use crate::messages::jobs::Outcome;
use crate::messages::prices::Price;
use crate::messages::wire::Tokens;
use crate::telemetry::events::JobEnded;

/// The most tokens of one job that are believed. Sums of them stay within SQLite's integers.
const MOST_TOKENS: u64 = 1 << 40;
/// The most that one job can earn, in billionths of a USD: a million USD.
const MOST_EARNED: u128 = 1_000_000_000_000_000;

/// An accepted job that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobRecord {
    /// When it ended, in microseconds since 1970.
    pub(super) ended_at_us: i64,
    /// The coordinator's id for it.
    pub(super) job: JobId,
    /// Host and port of that coordinator.
    pub(super) coordinator: String,
    pub(super) model: ModelId,
    pub(super) endpoint: Endpoint,
    /// Where it had its slot last, if it had one.
    pub(super) backend: Option<BackendId>,
    /// `done`, `failed` or `cancelled`.
    pub(super) outcome: &'static str,
    /// Why it was not done: the same word as in the log and the metrics.
    pub(super) cause: Option<&'static str>,
    /// From receipt to the first byte.
    pub(super) first_byte: Option<Duration>,
    /// From receipt to the end.
    pub(super) total: Duration,
    /// As the backend reported. Zero unless it was done.
    pub(super) tokens: Tokens,
    /// What the model was offered for.
    pub(super) price: Option<Price>,
}

impl JobRecord {
    /// The row of a job of that coordinator which has just ended.
    pub(crate) fn new(ended: &JobEnded, coordinator: String, now: SystemTime) -> Self {
        Self {
            ended_at_us: micros(now),
            job: ended.job,
            coordinator,
            model: ended.model.clone(),
            endpoint: ended.endpoint,
            backend: ended.backend.clone(),
            outcome: ended.outcome_word(),
            cause: ended.cause.map(|cause| cause.as_str()),
            first_byte: ended.first_byte,
            total: ended.total,
            tokens: match &ended.outcome {
                Outcome::Done { tokens } => *tokens,
                Outcome::Failed(_) | Outcome::Cancelled => Tokens::default(),
            },
            price: ended.price,
        }
    }

    /// What it earns by the offered price, in billionths of a USD, rounded down.
    pub(super) fn earned_nano(&self) -> i64 {
        let Some(price) = self.price else { return 0 };
        let part = |tokens: u64, per_1m: u64| u128::from(tokens.min(MOST_TOKENS)) * u128::from(per_1m);
        // A price is in millionths of a USD for a million tokens.
        let nano = (part(self.tokens.input, price.input_per_1m) + part(self.tokens.output, price.output_per_1m)) / 1000;
        i64::try_from(nano.min(MOST_EARNED)).unwrap_or(i64::MAX)
    }
}

/// A time as SQLite holds it: in microseconds since 1970.
pub(super) fn micros(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds as SQLite holds them.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Tokens as SQLite holds them.
pub(super) fn counted(tokens: u64) -> i64 {
    i64::try_from(tokens.min(MOST_TOKENS)).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job that was done at that millisecond.
    pub(crate) fn done(ended_at_ms: i64, model: &str, input: u64, output: u64) -> JobRecord {
        JobRecord {
            ended_at_us: ended_at_ms * 1000,
            job: JobId::random(),
            coordinator: "coordinator.example:443".into(),
            model: model.into(),
            endpoint: Endpoint::ChatCompletions,
            backend: Some("ollama".into()),
            outcome: "done",
            cause: None,
            first_byte: Some(Duration::from_millis(120)),
            total: Duration::from_secs(2),
            tokens: Tokens::new(input, output),
            price: Some(Price { input_per_1m: 500_000, output_per_1m: 750_000 }),
        }
    }

    #[test]
    fn a_job_earns_its_tokens_at_the_offered_price() {
        // 0.50 USD and 0.75 USD a million tokens.
        assert_eq!(done(0, "m", 1_000_000, 0).earned_nano(), 500_000_000);
        assert_eq!(done(0, "m", 0, 1_000_000).earned_nano(), 750_000_000);
        assert_eq!(done(0, "m", 3, 1).earned_nano(), 2_250);
        assert_eq!(JobRecord { price: None, ..done(0, "m", 9, 9) }.earned_nano(), 0);
    }

    #[test]
    fn figures_that_no_job_has_are_cut() {
        let price = Some(Price { input_per_1m: u64::MAX, output_per_1m: u64::MAX });
        let absurd = JobRecord { price, ..done(0, "m", u64::MAX, u64::MAX) };
        assert_eq!(absurd.earned_nano(), 1_000_000_000_000_000);
        assert_eq!(counted(u64::MAX), 1 << 40);
    }
}
