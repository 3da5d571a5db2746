//! The figures of the last 60 s, for the heartbeat.
//!
//! It records the jobs that ended with a terminal frame, `job_done` or `job_error`: those have a latency. A job that was
//! cancelled, or lost with its connection, has none and is not recorded. The ledger counts running jobs. The router records
//! each end and reads the figures.
//!
//! Latency is computed from all recorded jobs, including errors; tokens per second from the recorded jobs whose backend
//! reported output tokens, because a missing report is not a rate of 0. Both are nearest-rank percentiles: the smallest
//! value that at least p percent of the values do not exceed, so always one that occurred; 0 without a value.
//!
//! Ends are kept in buckets of a second, at most 256 in each. Up to that number all figures are exact, and a job leaves the
//! window when it is exactly 60 s old. From a fuller second a uniform sample is kept, weighted with the number of jobs that
//! it represents. The counts of such a bucket stay exact, and it leaves the window as a whole, with its last job.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::messages::wire::{ErrorCode, Heartbeat, Tokens};

/// How long an ended job counts.
const WINDOW: Duration = Duration::from_secs(60);
/// What one bucket spans.
const SPAN: Duration = Duration::from_secs(1);
/// The most ends that are kept in one bucket.
const SAMPLE: usize = 256;
/// The lower bound of a job's duration in a rate, so that no rate is infinite.
const SHORTEST: Duration = Duration::from_millis(1);
/// The last second that RFC 3339 can represent, since 1970.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// A job that ended with a terminal frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// From the receipt of the job to its terminal frame.
    pub duration: Duration,
    /// As the backend reported them; 0 if it did not.
    pub tokens: Tokens,
    /// The error code, if it ended with one.
    pub error: Option<ErrorCode>,
}

/// The jobs that ended in the last 60 s. Its memory is bounded, whatever the rate.
#[derive(Clone, Debug)]
pub(crate) struct LoadWindow {
    /// Oldest first, none of them empty. They start at least [`SPAN`] apart.
    buckets: VecDeque<Bucket>,
    /// The latest time seen. An earlier time counts as this one.
    latest: Option<Instant>,
    /// Kept also after it has left the window.
    last_error: Option<(SystemTime, ErrorCode)>,
    /// Chooses samples. The seed is constant: there is no gain in guessing it.
    chance: Xoshiro256PlusPlus,
}

/// The ends within one [`SPAN`].
#[derive(Clone, Debug)]
struct Bucket {
    /// The time of its first end.
    start: Instant,
    /// The time of its last end.
    last: Instant,
    /// How many jobs ended; over [`SAMPLE`] only a sample of them is kept.
    ended: u64,
    errors: u64,
    /// All ends in order of time, or a sample of them in no order.
    sample: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    duration: Duration,
    /// Output tokens per second, if tokens were reported.
    rate: Option<f64>,
    failed: bool,
}

impl Default for LoadWindow {
    fn default() -> Self {
        let chance = Xoshiro256PlusPlus::seed_from_u64(0);
        Self { buckets: VecDeque::new(), latest: None, last_error: None, chance }
    }
}

impl LoadWindow {
    /// Records that a job ended at `now`, which is `at` by the wall clock.
    pub(crate) fn record(&mut self, now: Instant, at: SystemTime, ended: &Ended) {
        let now = self.advance(now);
        if let Some(code) = ended.error {
            self.last_error = Some((at, code));
        }
        let sample = Sample::new(now, ended);
        match self.buckets.back_mut().filter(|bucket| now.saturating_duration_since(bucket.start) < SPAN) {
            Some(bucket) => bucket.add(sample, &mut self.chance),
            None => self.buckets.push_back(Bucket::new(sample)),
        }
    }

    /// The figures of the 60 s before `now`, and the number of running jobs. All of them are finite.
    pub(crate) fn heartbeat(&mut self, now: Instant, queue_depth: u64) -> Heartbeat {
        self.advance(now);
        let ended = self.total(|bucket| bucket.ended);
        let errors = self.total(|bucket| bucket.errors);
        let mut durations = self.weighted(|sample| Some(sample.duration));
        durations.sort_unstable_by_key(|(duration, _)| *duration);
        let mut rates = self.weighted(|sample| sample.rate);
        rates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let latency = |p| millis(nearest_rank(&durations, p).unwrap_or_default());
        Heartbeat {
            queue_depth,
            tokens_per_sec_p50: nearest_rank(&rates, 50).unwrap_or_default(),
            p50_latency_ms: latency(50),
            p95_latency_ms: latency(95),
            error_rate_60s: if ended == 0 { 0.0 } else { errors as f64 / ended as f64 },
            last_error_at: self.last_error.map(|(at, _)| rfc3339(at)),
            last_error_code: self.last_error.map(|(_, code)| code),
        }
    }

    /// Moves the window on and drops what has left it. Returns the time that counts as now.
    fn advance(&mut self, now: Instant) -> Instant {
        let now = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(now);
        let gone = |then: Instant| now.saturating_duration_since(then) >= WINDOW;
        while self.buckets.front().is_some_and(|bucket| gone(bucket.last)) {
            self.buckets.pop_front();
        }
        if let Some(oldest) = self.buckets.front_mut().filter(|bucket| gone(bucket.start)) {
            oldest.trim(gone);
        }
        now
    }

    fn total(&self, count: impl Fn(&Bucket) -> u64) -> u64 {
        self.buckets.iter().map(count).fold(0, u64::saturating_add)
    }

    /// A value of each sample that has one, with the number of ends that the sample represents.
    fn weighted<V>(&self, value: impl Fn(&Sample) -> Option<V>) -> Vec<(V, f64)> {
        let of = |bucket: &Bucket| bucket.ended as f64 / bucket.sample.len().max(1) as f64;
        let each = self.buckets.iter().flat_map(|bucket| bucket.sample.iter().map(move |sample| (sample, of(bucket))));
        each.filter_map(|(sample, weight)| Some((value(sample)?, weight))).collect()
    }
}

impl Bucket {
    fn new(first: Sample) -> Self {
        let errors = u64::from(first.failed);
        Self { start: first.at, last: first.at, ended: 1, errors, sample: vec![first] }
    }

    /// Counts an end and keeps it. Once the sample is full, each of all ends so far has the same probability to be in it.
    fn add(&mut self, end: Sample, chance: &mut Xoshiro256PlusPlus) {
        self.last = end.at;
        self.ended = self.ended.saturating_add(1);
        self.errors = self.errors.saturating_add(u64::from(end.failed));
        if self.sample.len() < SAMPLE {
            self.sample.push(end);
        } else if let Some(place) = usize::try_from(chance.random_range(0..self.ended)).ok()
            && let Some(other) = self.sample.get_mut(place)
        {
            *other = end;
        }
    }

    /// Drops the expired ends if all ends are kept; a sampled bucket stays whole.
    fn trim(&mut self, gone: impl Fn(Instant) -> bool) {
        if self.ended > SAMPLE as u64 {
            return;
        }
        self.sample.retain(|sample| !gone(sample.at));
        self.start = self.sample.first().map_or(self.last, |sample| sample.at);
        self.ended = self.sample.len() as u64;
        self.errors = self.sample.iter().map(|sample| u64::from(sample.failed)).sum();
    }
}

impl Sample {
    fn new(at: Instant, ended: &Ended) -> Self {
        let Ended { duration, tokens, error } = *ended;
        let rate = (tokens.output > 0).then(|| tokens.output as f64 / duration.max(SHORTEST).as_secs_f64());
        Self { at, duration, rate, failed: error.is_some() }
    }
}

/// The nearest-rank percentile of sorted values: the first at which the weights add up to `percent` of all weight.
fn nearest_rank<V: Copy>(sorted: &[(V, f64)], percent: u8) -> Option<V> {
    let all: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let enough = all * f64::from(percent) / 100.0;
    let reached = sorted.iter().scan(0.0, |sum, (value, weight)| {
        *sum += weight;
        Some((*value, *sum))
    });
    // The weights may be fractions, so their sum can be below the exact one by a rounding error.
    reached.into_iter().find(|(_, sum)| *sum >= enough).map(|(value, _)| value).or(sorted.last().map(|last| last.0))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// UTC, in whole seconds. A time before 1970 or after 9999 counts as the nearest one within.
fn rfc3339(at: SystemTime) -> String {
    let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST_SECOND);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

#[cfg(test)]
mod tests;
