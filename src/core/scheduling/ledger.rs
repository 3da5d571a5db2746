//! The one account of accepted jobs.
//!
//! A job is in it from its admission until its terminal frame, its cancel, or the loss of its connection or backend. Its
//! entry holds a grip on the work, of a type of the driver's choice; dropping the grip cancels the work. So removing an
//! entry is what ends a job, each slot is freed exactly once, and nobody else counts jobs. Driven by the router alone.
//!
//! What always holds, in the words of [`Broken`]:
//!
//! - LEDGER-1: a job id is in the ledger at most once, whatever its generation.
//! - LEDGER-2: a backend's count is the number of its entries.
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
    /// The backend that works it now.
    pub backend: BackendId,
    /// This admission.
    pub ticket: Ticket,
    /// What holds the work: dropping it cancels the work.
    pub grip: T,
}

/// Accepted jobs, and the bounds on their number.
#[derive(Clone, Debug)]
pub struct Ledger<T> {
    max_total: usize,
    /// The account itself, in the order of admission. The two maps below are found from it.
    entries: BTreeMap<Ticket, Entry<T>>,
    by_job: HashMap<JobId, Ticket>,
    /// Entries a backend, without those that have none.
    by_backend: HashMap<BackendId, usize>,
    /// The next ticket, which is also the number of admissions so far.
    next_ticket: u64,
    /// Entries removed so far.
    removed: u64,
}

/// Why a job was not admitted. Nothing was started for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A job of this id runs, on this connection or an older one. It goes on: an answer to this one would end that one.
    #[error("a job of this id runs already")]
    Duplicate,
    /// The agent works as many jobs as it may.
    #[error("the agent is full")]
    AgentFull,
    /// The backend works as many jobs as it may.
    #[error("the backend is full")]
    BackendFull,
}

/// Why a job did not move. It stays where it is, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    /// It has ended.
    #[error("the job has ended")]
    Ended,
    /// The other backend works as many jobs as it may.
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

    /// Takes a job in, where its id is not in the ledger, the agent is not full, and its backend holds fewer than
    /// `backend_limit` jobs. These are asked in this order. Only then `grip` is called, with the ticket of this admission,
    /// to start the work; if it panics, nothing was admitted.
    pub fn admit(
        &mut self,
        job: JobId,
        generation: Generation,
        backend: &BackendId,
        backend_limit: u32,
        grip: impl FnOnce(Ticket) -> T,
    ) -> Result<&Entry<T>, Refused> {
        if self.by_job.contains_key(&job) {
            return Err(Refused::Duplicate);
        }
        if self.entries.len() >= self.max_total {
            return Err(Refused::AgentFull);
        }
        if self.on_backend(backend) >= wide(backend_limit) {
            return Err(Refused::BackendFull);
        }
        let ticket = Ticket(self.next_ticket);
        let entry = Entry { job, generation, backend: backend.clone(), ticket, grip: grip(ticket) };
        self.next_ticket += 1;
        self.by_job.insert(job, ticket);
        *self.by_backend.entry(backend.clone()).or_default() += 1;
        debug_assert_eq!(self.check_counts(self.entries.len() + 1), Ok(()));
        Ok(self.entries.entry(ticket).or_insert(entry))
    }

    /// Gives a job to another backend, where that holds fewer than `backend_limit` jobs; its slot on the old one is free
    /// then. To the backend that it is on already it can always move: it has its slot there. Ticket, grip and place in the
    /// order of admission stay.
    pub fn move_to(&mut self, ticket: Ticket, backend: &BackendId, backend_limit: u32) -> Result<(), Unmoved> {
        let on_backend = self.on_backend(backend);
        let entry = self.entries.get_mut(&ticket).ok_or(Unmoved::Ended)?;
        if entry.backend == *backend {
            return Ok(());
        }
        if on_backend >= wide(backend_limit) {
            return Err(Unmoved::BackendFull);
        }
        let old = std::mem::replace(&mut entry.backend, backend.clone());
        *self.by_backend.entry(backend.clone()).or_default() += 1;
        self.uncount(&old);
        debug_assert_eq!(self.check_counts(self.entries.len()), Ok(()));
        Ok(())
    }

    /// What holds an admission's work, to change what is noted with it. `None` where it has ended.
    pub fn grip(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.entries.get_mut(&ticket).map(|entry| &mut entry.grip)
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
        self.uncount(&entry.backend);
        self.removed += 1;
        debug_assert_eq!(self.check_counts(self.entries.len()), Ok(()));
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
        self.end_each(|entry| entry.generation == generation)
    }

    /// Removes every job of a backend, in the order of admission.
    pub fn end_backend(&mut self, backend: &BackendId) -> Vec<Entry<T>> {
        self.end_each(|entry| entry.backend == *backend)
    }

    /// Removes every job, in the order of admission.
    pub fn end_all(&mut self) -> Vec<Entry<T>> {
        self.end_each(|_| true)
    }

    /// Jobs accepted and not ended.
    pub fn in_flight(&self) -> usize {
        self.entries.len()
    }

    /// Those of them on one backend.
    pub fn on_backend(&self, backend: &BackendId) -> usize {
        self.by_backend.get(backend).copied().unwrap_or(0)
    }

    /// The entries, in the order of admission.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.values()
    }

    /// Asks every invariant, at the cost of a walk over all entries.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_counts(self.entries.len())?;
        let mut counted: HashMap<&BackendId, usize> = HashMap::new();
        for (ticket, entry) in &self.entries {
            if *ticket != entry.ticket || ticket.0 >= self.next_ticket {
                return Err(Broken::TicketOnce);
            }
            if self.by_job.get(&entry.job) != Some(ticket) {
                return Err(Broken::JobOnce);
            }
            *counted.entry(&entry.backend).or_default() += 1;
        }
        let same = counted.len() == self.by_backend.len()
            && counted.iter().all(|(backend, count)| self.by_backend.get(*backend) == Some(count));
        if same { Ok(()) } else { Err(Broken::BackendCount) }
    }

    /// What can be told of the invariants from the counts alone, where `in_flight` entries are or are about to be.
    fn check_counts(&self, in_flight: usize) -> Result<(), Broken> {
        if self.by_job.len() != in_flight {
            Err(Broken::JobOnce)
        } else if self.by_backend.values().sum::<usize>() != in_flight {
            Err(Broken::BackendCount)
        } else if in_flight > self.max_total {
            Err(Broken::TooMany)
        } else if self.next_ticket.checked_sub(self.removed) != u64::try_from(in_flight).ok() {
            Err(Broken::Conservation)
        } else {
            Ok(())
        }
    }

    /// Takes one entry off a backend's count.
    fn uncount(&mut self, backend: &BackendId) {
        if let Some(count) = self.by_backend.get_mut(backend) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_backend.remove(backend);
            }
        }
    }

    fn end_each(&mut self, wanted: impl Fn(&Entry<T>) -> bool) -> Vec<Entry<T>> {
        let tickets: Vec<Ticket> = self.iter().filter(|entry| wanted(entry)).map(|entry| entry.ticket).collect();
        tickets.into_iter().filter_map(|ticket| self.end(ticket)).collect()
    }
}

/// A limit as a number of entries.
fn wide(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
