//! What is known of one backend's slots: ours, others', and those that cancelled jobs still hold.
//!
//! How many jobs of ours run there the ledger counts, and is an argument. Here is what it can't know, from the server's own
//! word, which is a count of busy slots and says neither whose they are nor how old it is:
//!
//! - **Foreign** load: what was busy beyond our jobs. As ours counts every job that may have been in a slot at the moment
//!   of the look, those that ended during it too: a look that crosses the end of a job must not take a slot from us.
//!   It holds until the next report, for `BELIEVED` at most.
//! - **Lingering** slots: a server may work on a cancelled job for a while. Where the server tells of its load, a cancelled
//!   job's slot counts as taken until a report shows it idle. Where none comes, it does so for `LINGERS`; where one showed
//!   it busy, it counts as foreign from then on. Where the server does not tell, the slot is free at once.
//!
//! A server tells as long as a report of it is believed. Driven by the router: it asks [`Capacity::next_poll`] when to look,
//! says so with [`Capacity::on_ask`], and brings the answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time between two polls while something lingers. More than a second: llama.cpp sees that a caller who reads no stream
/// has gone only if nobody asks it anything for a second.
const POLL: Duration = Duration::from_millis(1500);
/// The time between a cancel and the poll that follows it: what a server needs to see a closed connection.
const AFTER_CANCEL: Duration = Duration::from_millis(200);
/// The time between two polls while nothing lingers.
const LAZY: Duration = Duration::from_secs(10);
/// How long a slot may linger.
const LINGERS: Duration = Duration::from_secs(5);
/// How long a report holds if no other comes: a few that got lost.
const BELIEVED: Duration = Duration::from_secs(35);
/// How long before its answer a look may have begun that nobody announced.
const LOOK: Duration = Duration::from_secs(2);
/// How long after a job's end its slot may still be seen busy.
const SETTLES: Duration = Duration::from_millis(250);
/// The most ends and cancels that are remembered. More than so many in one look make its report say less than it could.
const REMEMBERED: usize = 1024;

/// The slots of one backend.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Jobs of ours at once, as the operator or the server says.
    limit: u32,
    /// Requests that the server works at once, where it says so.
    slots: Option<u32>,
    /// The latest report.
    report: Option<Report>,
    /// When each job was cancelled whose slot may linger, oldest first.
    cancelled: VecDeque<Instant>,
    /// When the latest jobs ended otherwise, oldest first.
    ended: VecDeque<Instant>,
    /// When the server was asked last.
    asked: Option<Instant>,
}

/// What a report showed.
#[derive(Clone, Copy, Debug)]
struct Report {
    at: Instant,
    /// When the look began.
    asked: Instant,
    /// Busy slots that are not ours: foreign ones, and those that lingered.
    beyond_ours: u32,
}

impl Capacity {
    /// A backend of which only the limits are known.
    pub fn new(limit: u32, slots: Option<u32>) -> Self {
        Self { limit, slots, report: None, cancelled: VecDeque::new(), ended: VecDeque::new(), asked: None }
    }

    /// Takes in new limits.
    pub fn resize(&mut self, limit: u32, slots: Option<u32>) {
        (self.limit, self.slots) = (limit, slots);
    }

    /// Jobs of ours at once, at most.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How many more jobs of ours there is room for, where `ours` run.
    pub fn free(&self, ours: u32, now: Instant) -> u32 {
        self.usable(now).saturating_sub(ours.saturating_add(self.lingering(now)))
    }

    /// Jobs of ours that there is room for in all: the limit, or what others leave of the server where it says how many
    /// slots it has. What lingers is not
    /// taken off, so that an offer does not follow every cancel.
    pub fn usable(&self, now: Instant) -> u32 {
        self.slots.map_or(self.limit, |slots| self.limit.min(slots.max(self.limit).saturating_sub(self.foreign(now))))
    }

    /// How full the server is, in thousandths, where `ours` run. Over 1000: there is more work than slots.
    pub fn load(&self, ours: u32, now: Instant) -> u32 {
        let taken = u64::from(ours) + u64::from(self.lingering(now)) + u64::from(self.foreign(now));
        u32::try_from(taken * 1000 / u64::from(self.total().max(1))).unwrap_or(u32::MAX)
    }

    /// Slots that others hold.
    pub fn foreign(&self, now: Instant) -> u32 {
        let Some(Report { asked, beyond_ours, .. }) = self.believed(now) else { return 0 };
        beyond_ours.saturating_sub(count(self.fresh(now).filter(|at| **at < *asked)))
    }

    /// Slots that cancelled jobs hold.
    pub fn lingering(&self, now: Instant) -> u32 {
        if self.believed(now).is_none() {
            return 0;
        }
        count(self.fresh(now))
    }

    /// A job of ours ended there, other than by a cancel, or moved away: it holds no slot, by all that is known.
    pub fn on_end(&mut self, now: Instant) {
        remember(&mut self.ended, now);
    }

    /// A job of ours was cancelled while it ran there.
    pub fn on_cancel(&mut self, now: Instant) {
        remember(&mut self.cancelled, now);
    }

    /// The server is being asked for its load.
    pub fn on_ask(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// The server said that `busy` slots are, where `ours` run now: in answer to the latest [`Self::on_ask`], or else to a
    /// look of `LOOK` at most.
    pub fn on_report(&mut self, busy: u32, ours: u32, now: Instant) {
        let before = self.foreign(now);
        let told = self.report.map(|report| report.at);
        let announced = self.asked.take().filter(|asked| told.is_none_or(|told| *asked >= told));
        let asked = announced.unwrap_or_else(|| now.checked_sub(LOOK).unwrap_or(now));

        // Of what was cancelled since the look began the report says nothing.
        let recent = count(self.cancelled.iter().filter(|at| **at >= asked));
        // Each doubt is decided so that it ends by itself: what may linger does, which has its bound, and what may have
        // been ours as the server looked is not foreign.
        let beyond_ours = busy.saturating_sub(ours);
        let lingering = beyond_ours.saturating_sub(before).min(self.lingering(asked).saturating_sub(recent));
        let ended = count(self.ended.iter().filter(|at| **at + SETTLES >= asked));
        let foreign = beyond_ours.saturating_sub(lingering.saturating_add(ended).saturating_add(recent));
        let kept = usize::try_from(recent.saturating_add(lingering)).unwrap_or(usize::MAX);
        self.cancelled.drain(..self.cancelled.len().saturating_sub(kept));
        self.ended.retain(|at| now.saturating_duration_since(*at) < LOOK + SETTLES);
        self.report = Some(Report { at: now, asked, beyond_ours: foreign.saturating_add(lingering) });
    }

    /// When the server should be asked for its load again; at once where that has passed. `None` where it has not told
    /// of it, unasked, of late.
    pub fn next_poll(&self, now: Instant) -> Option<Instant> {
        let told = self.believed(now)?.at;
        let last = self.asked.map_or(told, |asked| asked.max(told));
        if self.lingering(now) == 0 {
            return Some(last + LAZY);
        }
        let first = self.cancelled.iter().find(|at| **at >= last).map_or(last, |at| *at + AFTER_CANCEL);
        Some(first.max(last + POLL))
    }

    /// The cancels whose slots may linger yet.
    fn fresh(&self, now: Instant) -> impl Iterator<Item = &Instant> {
        self.cancelled.iter().filter(move |at| now.saturating_duration_since(**at) < LINGERS)
    }

    fn believed(&self, now: Instant) -> Option<&Report> {
        self.report.as_ref().filter(|report| now.saturating_duration_since(report.at) < BELIEVED)
    }

    /// Slots in all. An operator may have us queue at the server: then there are more than it says.
    fn total(&self) -> u32 {
        self.slots.map_or(self.limit, |slots| slots.max(self.limit))
    }
}

fn remember(times: &mut VecDeque<Instant>, now: Instant) {
    if times.len() >= REMEMBERED {
        times.pop_front();
    }
    times.push_back(now);
}

fn count<'a>(times: impl Iterator<Item = &'a Instant>) -> u32 {
    u32::try_from(times.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
