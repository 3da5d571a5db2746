//! The one account of accepted jobs.
//!
//! A job is in it from its acceptance until its terminal frame, its cancel, or the loss of its connection. Its entry holds
//! the driver's handle on the work; removing the entry is what ends a job, each slot is freed exactly once, and no one else
//! counts jobs. A job that was accepted and has no slot yet, or no slot any more, is in it too: on no backend. Driven by the
//! router alone.
//!
//! What always holds, in the words of [`Broken`]:
//!
//! - LEDGER-1: a job id is in the ledger at most once, whatever its generation.
//! - LEDGER-2: a backend's count is the number of entries that have a slot there.
//! - LEDGER-3: there are never more entries than `max_total`.
//! - LEDGER-4: a ticket is given once: each one in the ledger is older than the next one to be given.
//! - LEDGER-5: admitted = removed + in flight.
//!
//! Debug builds assert after each change what costs no walk over the entries; tests assert all of it.

use std::collections::{BTreeMap, HashMap};

use crate::messages::ids::{BackendId, Generation, JobId};
use crate::messages::jobs::Ticket;

/// An accepted job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// The coordinator's id for it.
    pub job: JobId,
    /// The connection that it came by.
    pub generation: Generation,
    /// The backend where it has a slot. `None` while it waits for one.
    pub backend: Option<BackendId>,
    /// This admission.
    pub ticket: Ticket,
    /// What the driver keeps of it.
    pub state: T,
}

/// Accepted jobs, and the bounds on their number.
#[derive(Clone, Debug)]
pub struct Ledger<T> {
    max_total: usize,
    /// The account itself, in the order of admission. The two maps below are found from it.
    entries: BTreeMap<Ticket, Entry<T>>,
    by_job: HashMap<JobId, Ticket>,
    /// Slots taken on each backend, without those that have none.
    by_backend: HashMap<BackendId, usize>,
    /// The next ticket, which is also the number of admissions so far.
    next_ticket: u64,
    /// Entries removed so far.
    removed: u64,
}

/// Why a job was not admitted. Nothing was kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A job of this id runs, on this connection or an older one. It goes on: an answer to this one would end that one.
    #[error("a job of this id runs already")]
    Duplicate,
    /// The agent holds as many jobs as it may.
    #[error("the agent is full")]
    AgentFull,
}

/// Why a job got no slot. It stays where it is, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPlaced {
    /// It has ended.
    #[error("the job has ended")]
    Ended,
    /// The backend works as many jobs as it may.
    #[error("the backend is full")]
    BackendFull,
}

/// An invariant that does not hold: a bug in this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// LEDGER-1.
    #[error("LEDGER-1: a job id is not in the ledger exactly as often as its entry")]
    JobOnce,
    /// LEDGER-2.
    #[error("LEDGER-2: a backend's count is not the number of its entries")]
    BackendCount,
    /// LEDGER-3.
    #[error("LEDGER-3: more entries than allowed")]
    TooMany,
    /// LEDGER-4.
    #[error("LEDGER-4: a ticket from the future, or of another entry")]
    TicketOnce,
    /// LEDGER-5.
    #[error("LEDGER-5: admitted is not removed plus in flight")]
    Conservation,
}

impl<T> Ledger<T> {
    /// An empty ledger of at most `max_total` jobs at once.
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

    /// Accepts a job, without a slot, where its id is not in the ledger and the agent is not full. These are asked in this
    /// order.
    pub fn admit(&mut self, job: JobId, generation: Generation, state: T) -> Result<Ticket, Refused> {
        if self.by_job.contains_key(&job) {
            return Err(Refused::Duplicate);
        }
        if self.entries.len() >= self.max_total {
            return Err(Refused::AgentFull);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.by_job.insert(job, ticket);
        self.entries.insert(ticket, Entry { job, generation, backend: None, ticket, state });
        debug_assert_eq!(self.check_counts(), Ok(()));
        Ok(ticket)
    }

    /// Gives a job a slot on a backend that holds fewer than `backend_limit` jobs; a slot that it has elsewhere is free
    /// then. On the backend that it is on already it keeps its slot. Ticket, state and place in the order of admission stay.
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

    /// Frees a job's slot; the job stays. The backend where it was.
    pub fn unplace(&mut self, ticket: Ticket) -> Option<BackendId> {
        let old = self.entries.get_mut(&ticket)?.backend.take();
        self.uncount(old.as_ref());
        debug_assert_eq!(self.check_counts(), Ok(()));
        old
    }

    /// An admission's entry. `None` where it has ended.
    pub fn get(&self, ticket: Ticket) -> Option<&Entry<T>> {
        self.entries.get(&ticket)
    }

    /// What is kept of an admission, to change it. `None` where it has ended.
    pub fn state(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.entries.get_mut(&ticket).map(|entry| &mut entry.state)
    }

    /// Whether a job of this id runs, whatever its generation.
    pub fn contains(&self, job: JobId) -> bool {
        self.by_job.contains_key(&job)
    }

    /// Removes the entry of an admission: its work has ended. `None` where it was removed before, which is no fault: a
    /// job may end just as it is cancelled.
    pub fn end(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        let entry = self.entries.remove(&ticket)?;
        self.by_job.remove(&entry.job);
        self.uncount(entry.backend.as_ref());
        self.removed += 1;
        debug_assert_eq!(self.check_counts(), Ok(()));
        Some(entry)
    }

    /// Removes a job that its own connection cancels. `None` where it is not in the ledger, or is another connection's.
    pub fn cancel(&mut self, job: JobId, generation: Generation) -> Option<Entry<T>> {
        let ticket = *self.by_job.get(&job)?;
        self.entries.get(&ticket).filter(|entry| entry.generation == generation)?;
        self.end(ticket)
    }

    /// Removes every job of a connection, in the order of admission.
    pub fn end_generation(&mut self, generation: Generation) -> Vec<Entry<T>> {
        let of = self.iter().filter(|entry| entry.generation == generation);
        let tickets: Vec<Ticket> = of.map(|entry| entry.ticket).collect();
        tickets.into_iter().filter_map(|ticket| self.end(ticket)).collect()
    }

    /// Jobs accepted and not ended.
    pub fn in_flight(&self) -> usize {
        self.entries.len()
    }

    /// Those of them that have a slot on one backend.
    pub fn on_backend(&self, backend: &BackendId) -> usize {
        self.by_backend.get(backend).copied().unwrap_or(0)
    }

    /// The entries, in the order of admission.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.values()
    }

    /// Asks every invariant, at the cost of a walk over all entries.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_counts()?;
        let mut counted: HashMap<&BackendId, usize> = HashMap::new();
        for (ticket, entry) in &self.entries {
            if *ticket != entry.ticket || ticket.0 >= self.next_ticket {
                return Err(Broken::TicketOnce);
            }
            if self.by_job.get(&entry.job) != Some(ticket) {
                return Err(Broken::JobOnce);
            }
            if let Some(backend) = &entry.backend {
                *counted.entry(backend).or_default() += 1;
            }
        }
        let same = counted.len() == self.by_backend.len()
            && counted.iter().all(|(backend, count)| self.by_backend.get(*backend) == Some(count));
        if same { Ok(()) } else { Err(Broken::BackendCount) }
    }

    /// What can be told of the invariants from the counts alone.
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

    /// Takes one slot off a backend's count.
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
