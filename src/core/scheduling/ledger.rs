//! The only record of accepted jobs.
//!
//! A job is in the ledger from its acceptance until its terminal frame, its cancel, or the end of its session, also
//! while it has no slot. Its entry holds the driver's part of the job, so the removal of the entry ends the job. Each slot
//! is freed exactly once, and no other module counts jobs. Used only by the router.
//!
//! Invariants, see [`Broken`]:
//!
//! - LEDGER-1: a job id is in the ledger at most once for each coordinator, whatever its session.
//! - LEDGER-2: a backend's count is the number of entries that have a slot there.
//! - LEDGER-3: there are never more entries than `max_total`.
//! - LEDGER-4: a ticket is given once: each one in the ledger is older than the next one to be given.
//! - LEDGER-5: admitted = removed + in flight.
//!
//! Debug builds assert after each change the invariants that can be checked from the counts; tests check all of them.

use std::collections::{BTreeMap, HashMap};

use crate::messages::ids::{BackendId, CoordinatorId, JobId, SessionId};
use crate::messages::jobs::Ticket;

/// An accepted job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// The coordinator's id of the job.
    pub job: JobId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// The backend where it has a slot. `None` while it waits for one.
    pub backend: Option<BackendId>,
    /// This admission.
    pub ticket: Ticket,
    /// The driver's part of it.
    pub state: T,
}

/// Accepted jobs, and the bounds on their number.
#[derive(Clone, Debug)]
pub struct Ledger<T> {
    max_total: usize,
    /// The entries, in the order of admission. The two maps below are derived from them.
    entries: BTreeMap<Ticket, Entry<T>>,
    by_job: HashMap<(CoordinatorId, JobId), Ticket>,
    /// Slots used on each backend, without backends that have none.
    by_backend: HashMap<BackendId, usize>,
    /// The next ticket, which is also the number of admissions so far.
    next_ticket: u64,
    /// Entries removed so far.
    removed: u64,
}

/// Why a job was not admitted. Nothing of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A job of the coordinator with this id is running, in this session or another one. It goes on; an answer to the new job
    /// would end it.
    #[error("a job with this id is already running")]
    Duplicate,
    /// The agent holds as many jobs as it may.
    #[error("the agent is full")]
    AgentFull,
}

/// Why a job got no slot. It stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPlaced {
    /// It has ended.
    #[error("the job has ended")]
    Ended,
    /// The backend has as many jobs as it may.
    #[error("the backend is full")]
    BackendFull,
}

/// A broken invariant: a bug in this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// LEDGER-1.
    #[error("LEDGER-1: a job id does not match its entry")]
    JobOnce,
    /// LEDGER-2.
    #[error("LEDGER-2: a backend's count differs from the number of its entries")]
    BackendCount,
    /// LEDGER-3.
    #[error("LEDGER-3: more entries than allowed")]
    TooMany,
    /// LEDGER-4.
    #[cfg(any(test, fuzzing))]
    #[error("LEDGER-4: a ticket that was not given yet, or belongs to another entry")]
    TicketOnce,
    /// LEDGER-5.
    #[error("LEDGER-5: admitted differs from removed plus in flight")]
    Conservation,
}

impl<T> Ledger<T> {
    /// An empty ledger of at most `max_total` jobs.
    pub fn new(max_total: u32) -> Self {
        Self {
            max_total: wide(max_total),
            entries: BTreeMap::new(),
            by_job: HashMap::new(),
            by_backend: HashMap::new(),
            next_ticket: 0,
            removed: 0,
        }
    }

    /// Accepts a job, without a slot, if its id is not in the ledger and the agent is not full, checked in this order.
    pub fn admit(&mut self, job: JobId, session: SessionId, state: T) -> Result<Ticket, Refused> {
        if self.contains(job, session.coordinator()) {
            return Err(Refused::Duplicate);
        }
        if self.entries.len() >= self.max_total {
            return Err(Refused::AgentFull);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.by_job.insert((session.coordinator(), job), ticket);
        self.entries.insert(ticket, Entry { job, session, backend: None, ticket, state });
        debug_assert_eq!(self.check_counts(), Ok(()));
        Ok(ticket)
    }

    /// Gives a job a slot on a backend that has fewer than `backend_limit` jobs, and frees its slot elsewhere. On its own
    /// backend it keeps its slot. Its ticket, state and place in the order of admission do not change.
    pub fn place(&mut self, ticket: Ticket, backend: &BackendId, backend_limit: u32) -> Result<(), NotPlaced> {
        let on_backend = self.on_backend(backend);
        let entry = self.entries.get_mut(&ticket).ok_or(NotPlaced::Ended)?;
        if entry.backend.as_ref() == Some(backend) {
            return Ok(());
        }
        if on_backend >= wide(backend_limit) {
            return Err(NotPlaced::BackendFull);
        }
        let old = entry.backend.replace(backend.clone());
        *self.by_backend.entry(backend.clone()).or_default() += 1;
        self.uncount(old.as_ref());
        debug_assert_eq!(self.check_counts(), Ok(()));
        Ok(())
    }

    /// Frees a job's slot; the job stays. Returns its backend.
    pub fn unplace(&mut self, ticket: Ticket) -> Option<BackendId> {
        let old = self.entries.get_mut(&ticket)?.backend.take();
        self.uncount(old.as_ref());
        debug_assert_eq!(self.check_counts(), Ok(()));
        old
    }

    /// The entry of an admission. `None` if it has ended.
    pub fn get(&self, ticket: Ticket) -> Option<&Entry<T>> {
        self.entries.get(&ticket)
    }

    /// The driver's part of an admission, mutable. `None` if it has ended.
    pub fn state(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.entries.get_mut(&ticket).map(|entry| &mut entry.state)
    }

    /// Whether a job with this id is in the ledger, whatever its session.
    pub fn contains(&self, job: JobId, coordinator: CoordinatorId) -> bool {
        self.by_job.contains_key(&(coordinator, job))
    }

    /// Removes the entry of an admission whose work has ended. `None` if it was removed before, which is normal: a job may
    /// end just as it is cancelled.
    pub fn end(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        let entry = self.entries.remove(&ticket)?;
        self.by_job.remove(&(entry.session.coordinator(), entry.job));
        self.uncount(entry.backend.as_ref());
        self.removed += 1;
        debug_assert_eq!(self.check_counts(), Ok(()));
        Some(entry)
    }

    /// Removes a job that its own session cancels. `None` if it is not in the ledger, or belongs to another session.
    pub fn cancel(&mut self, job: JobId, session: SessionId) -> Option<Entry<T>> {
        let ticket = *self.by_job.get(&(session.coordinator(), job))?;
        self.entries.get(&ticket).filter(|entry| entry.session == session)?;
        self.end(ticket)
    }

    /// The driver's part of a job of that session, mutable. `None` if it is not in the ledger, or belongs to another session.
    pub fn of_session(&mut self, job: JobId, session: SessionId) -> Option<&mut T> {
        let ticket = *self.by_job.get(&(session.coordinator(), job))?;
        self.entries.get_mut(&ticket).filter(|entry| entry.session == session).map(|entry| &mut entry.state)
    }

    /// Removes every job of a session, in the order of admission.
    pub fn end_session(&mut self, session: SessionId) -> Vec<Entry<T>> {
        let of = self.iter().filter(|entry| entry.session == session);
        let tickets: Vec<Ticket> = of.map(|entry| entry.ticket).collect();
        tickets.into_iter().filter_map(|ticket| self.end(ticket)).collect()
    }

    /// The number of jobs that were accepted and have not ended.
    pub fn in_flight(&self) -> usize {
        self.entries.len()
    }

    /// The number of jobs with a slot on one backend.
    pub fn on_backend(&self, backend: &BackendId) -> usize {
        self.by_backend.get(backend).copied().unwrap_or(0)
    }

    /// The entries, in the order of admission.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.values()
    }

    /// Checks every invariant, with a walk over all entries.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn check(&self) -> Result<(), Broken> {
        self.check_counts()?;
        let mut with_backend = 0;
        for (ticket, entry) in &self.entries {
            if *ticket != entry.ticket || ticket.0 >= self.next_ticket {
                return Err(Broken::TicketOnce);
            }
            with_backend += usize::from(entry.backend.is_some());
        }
        // There are as many ids as entries.
        let is_of = |entry: &Entry<T>, id: (CoordinatorId, JobId)| (entry.session.coordinator(), entry.job) == id;
        if !self.by_job.iter().all(|(id, ticket)| self.entries.get(ticket).is_some_and(|entry| is_of(entry, *id))) {
            return Err(Broken::JobOnce);
        }
        let on =
            |backend: &BackendId| self.entries.values().filter(|entry| entry.backend.as_ref() == Some(backend)).count();
        let same = self.by_backend.iter().all(|(backend, count)| *count > 0 && *count == on(backend))
            && self.by_backend.values().sum::<usize>() == with_backend;
        if same { Ok(()) } else { Err(Broken::BackendCount) }
    }

    /// The entries, from which all that is decided follows: the maps are derived from them, as [`Self::check`] checks. The next
    /// ticket is only greater than the others, and only its difference to those removed counts, which is the number of entries.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn decisive(&self) -> impl Iterator<Item = &Entry<T>> {
        let Self { max_total: _, entries, by_job: _, by_backend: _, next_ticket: _, removed: _ } = self;
        entries.values()
    }

    /// Checks the invariants that can be checked from the counts.
    fn check_counts(&self) -> Result<(), Broken> {
        let in_flight = self.entries.len();
        if self.by_job.len() != in_flight {
            Err(Broken::JobOnce)
        } else if self.by_backend.values().sum::<usize>() > in_flight {
            Err(Broken::BackendCount)
        } else if in_flight > self.max_total {
            Err(Broken::TooMany)
        } else if self.next_ticket.checked_sub(self.removed) != u64::try_from(in_flight).ok() {
            Err(Broken::Conservation)
        } else {
            Ok(())
        }
    }

    /// Subtracts one slot from a backend's count.
    fn uncount(&mut self, backend: Option<&BackendId>) {
        let Some(backend) = backend else { return };
        if let Some(count) = self.by_backend.get_mut(backend) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_backend.remove(backend);
            }
        }
    }
}

/// A limit as a number of entries.
fn wide(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
