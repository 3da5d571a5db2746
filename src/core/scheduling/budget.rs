//! The token budget of a minute.
//!
//! A job's estimate is reserved before the job is admitted, and settled with what was used when it has ended. Tokens are
//! used at some time between the two, nobody knows when. So a reservation counts from its start to its end in full, and
//! what was used counts for [`WINDOW`] from the settlement on. Hence, over any window, the jobs that may have used tokens
//! in it are all counted when the last of them is admitted, and as far as estimates are not exceeded their sum is within
//! the budget, with one exception: an estimate larger than the whole budget is let in while nothing else counts, or that
//! job could never run. What a job uses beyond its estimate can't be taken back; it counts, and others wait for it.
//!
//! Settlements are kept by the second, and a second leaves the window with its last settlement. Driven by the router.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long used tokens count.
pub const WINDOW: Duration = Duration::from_secs(60);
/// What one bucket spans.
const SPAN: Duration = Duration::from_secs(1);

/// The part of the budget that one job's answer reserves at most: a request may allow any number of tokens, and few answers
/// use what they are allowed. What an answer uses beyond it counts when the job has ended.
const MOST_OF_AN_ANSWER: u64 = 8;

/// The budget has no room for a job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token budget of this minute is spent")]
pub struct Spent;

/// Names what was reserved for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation(u64);

/// Tokens that may be used in a minute, and those that are. Its memory is bounded by the jobs that run.
#[derive(Clone, Debug)]
pub struct TokenBudget {
    per_minute: u64,
    /// Estimates of jobs that are not settled.
    reserved: HashMap<Reservation, u64>,
    /// The sum of these.
    reserved_sum: u128,
    /// Settlements, oldest first. They start at least [`SPAN`] apart.
    used: VecDeque<Bucket>,
    /// The latest time heard of. Time that goes back is taken to stand still.
    latest: Option<Instant>,
    next: u64,
}

/// What was settled within one [`SPAN`].
#[derive(Clone, Copy, Debug)]
struct Bucket {
    first: Instant,
    last: Instant,
    tokens: u128,
}

impl TokenBudget {
    /// So many tokens in any minute, none used yet.
    pub fn new(per_minute: u64) -> Self {
        let (reserved, used) = (HashMap::new(), VecDeque::new());
        Self { per_minute, reserved, reserved_sum: 0, used, latest: None, next: 0 }
    }

    /// Reserves a job's estimate, its prompt and its answers, where the budget has room for it next to all that counts now. Of
    /// the answers an eighth of the budget is reserved at most.
    pub fn reserve(&mut self, prompt: u64, answers: u64, now: Instant) -> Result<Reservation, Spent> {
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

    /// The job has ended: what was reserved is let go, and what it used counts. Where that is not known it used what was
    /// reserved. A reservation that is gone already is no
    /// fault, and nothing counts.
    pub fn settle(&mut self, reservation: Reservation, used: Option<u64>, now: Instant) {
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

    /// Tokens that count now: those reserved, and those used within the window.
    pub fn counted(&mut self, now: Instant) -> u128 {
        self.advance(now);
        self.reserved_sum + self.used.iter().map(|bucket| bucket.tokens).sum::<u128>()
    }

    /// What one job may count for where it is not known that it used more.
    pub fn share(&self) -> u64 {
        self.per_minute / MOST_OF_AN_ANSWER
    }

    /// Jobs whose estimates are reserved.
    pub fn reservations(&self) -> usize {
        self.reserved.len()
    }

    /// Tokens that are reserved.
    pub fn reserved(&self) -> u128 {
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
