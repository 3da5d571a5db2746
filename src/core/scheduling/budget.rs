//! The token budget of a minute.
//!
//! A job's estimate is reserved before the job is admitted, and replaced by the tokens that it used when it has ended. The
//! tokens are used at unknown times between the two. So a reservation counts in full from its start to its end, and the
//! used tokens count for [`WINDOW`] from the end on. Hence, for any window, all jobs that may have used tokens in it are
//! counted when the last of them is admitted. As far as no estimate is exceeded, their sum is within the budget, with one
//! exception: an estimate larger than the whole budget is admitted while nothing else counts, because that job could never
//! run otherwise. Tokens beyond an estimate count when the job has ended, and delay other jobs.
//!
//! Used tokens are kept in buckets of a second. A bucket leaves the window with its last entry. Used by the router.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long used tokens count.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// What one bucket spans.
const SPAN: Duration = Duration::from_secs(1);

/// The part of the budget that one job's answers reserve at most, as a divisor. A request may allow any number of tokens,
/// and few answers use as many. Tokens beyond it count when the job has ended.
const MOST_OF_AN_ANSWER: u64 = 8;

/// The budget has no room for a job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token budget of this minute is spent")]
pub(crate) struct Spent;

/// Identifies what was reserved for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reservation(u64);

/// The tokens that may be used in a minute, and those that are used. Its memory is bounded by the number of running jobs.
#[derive(Clone, Debug)]
pub(crate) struct TokenBudget {
    per_minute: u64,
    /// The estimates of jobs that have not ended.
    reserved: HashMap<Reservation, u64>,
    /// The sum of `reserved`.
    reserved_sum: u128,
    /// Used tokens, oldest first. The buckets start at least [`SPAN`] apart.
    used: VecDeque<Bucket>,
    /// The latest time seen. An earlier time counts as this one.
    latest: Option<Instant>,
    next: u64,
}

/// The tokens of the jobs that ended within one [`SPAN`].
#[derive(Clone, Copy, Debug)]
struct Bucket {
    first: Instant,
    last: Instant,
    tokens: u128,
}

impl TokenBudget {
    /// A budget of `per_minute` tokens, none of them used.
    pub(crate) fn new(per_minute: u64) -> Self {
        let (reserved, used) = (HashMap::new(), VecDeque::new());
        Self { per_minute, reserved, reserved_sum: 0, used, latest: None, next: 0 }
    }

    /// Reserves a job's estimate, its prompt and its answers, if the budget has room for it. For the answers it reserves at
    /// most an eighth of the budget.
    pub(crate) fn reserve(&mut self, prompt: u64, answers: u64, now: Instant) -> Result<Reservation, Spent> {
        let estimate = prompt.saturating_add(answers.min(self.share()));
        let counts = self.counted(now);
        let fits = counts + u128::from(estimate) <= u128::from(self.per_minute);
        if !fits && (counts > 0 || !self.reserved.is_empty()) {
            return Err(Spent);
        }
        let reservation = Reservation(self.next);
        self.next += 1;
        self.reserved.insert(reservation, estimate);
        self.reserved_sum += u128::from(estimate);
        Ok(reservation)
    }

    /// The job has ended: its reservation is released, and the used tokens count. If they are unknown, the reserved ones
    /// count instead. If there is no such reservation any more, nothing changes.
    pub(crate) fn settle(&mut self, reservation: Reservation, used: Option<u64>, now: Instant) {
        let now = self.advance(now);
        let Some(estimate) = self.let_go(reservation) else { return };
        let tokens = u128::from(used.unwrap_or(estimate));
        if tokens == 0 {
            return;
        }
        match self.used.back_mut().filter(|bucket| now.saturating_duration_since(bucket.first) < SPAN) {
            Some(bucket) => (bucket.last, bucket.tokens) = (now, bucket.tokens + tokens),
            None => self.used.push_back(Bucket { first: now, last: now, tokens }),
        }
    }

    /// Tokens that count now: the reserved ones, and those used within the window.
    pub(crate) fn counted(&mut self, now: Instant) -> u128 {
        self.advance(now);
        self.reserved_sum + self.used.iter().map(|bucket| bucket.tokens).sum::<u128>()
    }

    /// What one job may count for where it is not known that it used more.
    pub(crate) fn share(&self) -> u64 {
        self.per_minute / MOST_OF_AN_ANSWER
    }

    /// Jobs whose estimates are reserved.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn reservations(&self) -> usize {
        self.reserved.len()
    }

    /// The reserved tokens.
    pub(crate) fn reserved(&self) -> u128 {
        self.reserved_sum
    }

    fn let_go(&mut self, reservation: Reservation) -> Option<u64> {
        let estimate = self.reserved.remove(&reservation)?;
        self.reserved_sum = self.reserved_sum.saturating_sub(u128::from(estimate));
        Some(estimate)
    }

    /// Drops what has left the window.
    fn advance(&mut self, now: Instant) -> Instant {
        let now = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(now);
        while self.used.front().is_some_and(|bucket| now.saturating_duration_since(bucket.last) >= WINDOW) {
            self.used.pop_front();
        }
        now
    }
}

#[cfg(test)]
mod tests;
