//! The slots of one backend: ours, those of other clients, and those that cancelled jobs still use.
//!
//! The ledger counts our jobs there; the count is an argument. This module estimates the rest from the server's reports. A
//! report is the number of active requests; it does not tell whose they are, nor how old the number is:
//!
//! - **Foreign** load: active requests beyond our jobs. Every job that may have used a slot during the request of the
//!   report counts as ours, also those that ended meanwhile, because a report that crosses the end of a job must not take a
//!   slot from us. It counts until the next report, for `BELIEVED` at most.
//! - **Lingering** slots: a server may work on a cancelled job for a while. If the server reports its load, the slot of a
//!   cancelled job counts as used until a report shows it idle. Without a report it does so for `LINGERS`; a slot that was
//!   reported as active counts as foreign after that. If the server does not report its load, the slot is free at once.
//!
//! A server reports its load as long as its last report is believed. Used by the router: [`Capacity::next_poll`] is when to
//! request the load, [`Capacity::on_ask`] is called when it is requested, and then the report is passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time between two polls while a slot lingers. More than a second: llama.cpp detects the disconnect of a client that
/// does not stream only if it gets no request for a second.
const POLL: Duration = Duration::from_millis(1500);
/// The time between a cancel and the next poll: servers need it to detect a closed connection.
const AFTER_CANCEL: Duration = Duration::from_millis(200);
/// The time between two polls while no slot lingers.
const LAZY: Duration = Duration::from_secs(10);
/// How long a slot can linger.
const LINGERS: Duration = Duration::from_secs(5);
/// How long a report counts if no other follows, for example because some were lost.
const BELIEVED: Duration = Duration::from_secs(35);
/// How long a probe that was not announced may have taken.
const LOOK: Duration = Duration::from_secs(2);
/// How long after a job's end its slot may still be reported as active.
const SETTLES: Duration = Duration::from_millis(250);
/// The most ends and cancels that are remembered. If more happen during one poll, its report is used with more caution.
const REMEMBERED: usize = 1024;

/// The slots of one backend.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    /// The most concurrent jobs of ours, as configured or reported.
    limit: u32,
    /// The most concurrent requests of the server, if it reports that.
    slots: Option<u32>,
    /// The latest report.
    report: Option<Report>,
    /// The times of the cancels whose slots may linger, oldest first.
    cancelled: VecDeque<Instant>,
    /// The times of the latest other ends, oldest first.
    ended: VecDeque<Instant>,
    /// When the load was requested last.
    asked: Option<Instant>,
}

/// The content of a report.
#[derive(Clone, Copy, Debug)]
struct Report {
    at: Instant,
    /// When it was requested.
    asked: Instant,
    /// Active requests that are not ours: foreign and lingering ones.
    beyond_ours: u32,
}

impl Capacity {
    /// A backend of which only the limits are known.
    pub(crate) fn new(limit: u32, slots: Option<u32>) -> Self {
        Self { limit, slots, report: None, cancelled: VecDeque::new(), ended: VecDeque::new(), asked: None }
    }

    /// Applies new limits.
    pub(crate) fn resize(&mut self, limit: u32, slots: Option<u32>) {
        (self.limit, self.slots) = (limit, slots);
    }

    /// The most concurrent jobs of ours.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// How many more jobs of ours fit, if `ours` are running.
    pub(crate) fn free(&self, ours: u32, now: Instant) -> u32 {
        self.usable(now).saturating_sub(ours.saturating_add(self.lingering(now)))
    }

    /// How many jobs of ours fit in total: the limit, or the slots that other clients leave, if the server reports its
    /// slots. Lingering slots are not subtracted, so that the offer does not change with every cancel.
    pub(crate) fn usable(&self, now: Instant) -> u32 {
        self.slots.map_or(self.limit, |slots| self.limit.min(slots.max(self.limit).saturating_sub(self.foreign(now))))
    }

    /// The load of the server in thousandths, if `ours` jobs are running. Over 1000: there is more work than slots.
    pub(crate) fn load(&self, ours: u32, now: Instant) -> u32 {
        let taken = u64::from(ours) + u64::from(self.lingering(now)) + u64::from(self.foreign(now));
        u32::try_from(taken * 1000 / u64::from(self.total().max(1))).unwrap_or(u32::MAX)
    }

    /// Slots that other clients use.
    pub(crate) fn foreign(&self, now: Instant) -> u32 {
        let Some(Report { asked, beyond_ours, .. }) = self.believed(now) else { return 0 };
        beyond_ours.saturating_sub(count(self.fresh(now).filter(|at| **at < *asked)))
    }

    /// Slots that cancelled jobs use.
    pub(crate) fn lingering(&self, now: Instant) -> u32 {
        if self.believed(now).is_none() {
            return 0;
        }
        count(self.fresh(now))
    }

    /// A job of ours ended there without a cancel, or was moved away: it uses no slot any more.
    pub(crate) fn on_end(&mut self, now: Instant) {
        remember(&mut self.ended, now);
    }

    /// A job of ours was cancelled while it was running there.
    pub(crate) fn on_cancel(&mut self, now: Instant) {
        remember(&mut self.cancelled, now);
    }

    /// The load of the server is being requested.
    pub(crate) fn on_ask(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// The server reported `active` requests in work while `ours` jobs are running: in response to the latest
    /// [`Self::on_ask`], or else to a probe that took at most `LOOK`.
    pub(crate) fn on_report(&mut self, active: u32, ours: u32, now: Instant) {
        let before = self.foreign(now);
        let reported = self.report.map(|report| report.at);
        let announced = self.asked.take().filter(|asked| reported.is_none_or(|reported| *asked >= reported));
        let asked = announced.unwrap_or_else(|| now.checked_sub(LOOK).unwrap_or(now));

        // The report has no information about jobs that were cancelled after it was requested.
        let recent = count(self.cancelled.iter().filter(|at| **at >= asked));
        // Resolve each ambiguity so that it ends by itself: a slot that may linger counts as lingering, which is bounded,
        // and a request that may have been ours is not foreign.
        let beyond_ours = active.saturating_sub(ours);
        let lingering = beyond_ours.saturating_sub(before).min(self.lingering(asked).saturating_sub(recent));
        let ended = count(self.ended.iter().filter(|at| **at + SETTLES >= asked));
        let foreign = beyond_ours.saturating_sub(lingering.saturating_add(ended).saturating_add(recent));
        let kept = usize::try_from(recent.saturating_add(lingering)).unwrap_or(usize::MAX);
        self.cancelled.drain(..self.cancelled.len().saturating_sub(kept));
        self.ended.retain(|at| now.saturating_duration_since(*at) < LOOK + SETTLES);
        self.report = Some(Report { at: now, asked, beyond_ours: foreign.saturating_add(lingering) });
    }

    /// When to request the load next; in the past means at once. `None` if the server has not reported it in a probe
    /// lately.
    pub(crate) fn next_poll(&self, now: Instant) -> Option<Instant> {
        let reported = self.believed(now)?.at;
        let last = self.asked.map_or(reported, |asked| asked.max(reported));
        if self.lingering(now) == 0 {
            return Some(last + LAZY);
        }
        let first = self.cancelled.iter().find(|at| **at >= last).map_or(last, |at| *at + AFTER_CANCEL);
        Some(first.max(last + POLL))
    }

    /// The cancels whose slots may still linger.
    fn fresh(&self, now: Instant) -> impl Iterator<Item = &Instant> {
        self.cancelled.iter().filter(move |at| now.saturating_duration_since(**at) < LINGERS)
    }

    fn believed(&self, now: Instant) -> Option<&Report> {
        self.report.as_ref().filter(|report| now.saturating_duration_since(report.at) < BELIEVED)
    }

    /// The total number of slots. An operator may configure more jobs than the server reports slots, to queue at the
    /// server.
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

#[cfg(any(test, fuzzing))]
impl Capacity {
    pub(crate) fn add_to(&self, to: &mut crate::core::fingerprint::Fingerprint<'_>) {
        let Self { limit, slots, report, cancelled, ended, asked } = self;
        to.add((limit, slots));
        // A server that does not report its slots does not report its load. Then nothing is decided from the times of ends.
        if slots.is_some() {
            to.add(report.map(|Report { at, asked, beyond_ours }| (to.time(at), to.time(asked), beyond_ours)));
            to.add(cancelled.iter().map(|at| to.time(*at)).collect::<Vec<_>>());
            to.add(ended.iter().map(|at| to.time(*at)).collect::<Vec<_>>());
            to.add(asked.map(|at| to.time(at)));
        }
    }
}

#[cfg(test)]
mod tests;
