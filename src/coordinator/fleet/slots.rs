//! The slots of all agents and the requests that wait for one: the roster and the queue as one state, so that no slot becomes
//! free without a look at the queue. Pure, and generic like both; [`state`](crate::coordinator::state) has it under its lock.
//!
//! SLOTS-1: no request waits that an agent with a free slot may get. A request enters the queue only after no agent could take
//! it, and all methods that can make room at an agent give that room to the requests that wait.

use super::demand::{Demand, FrameLength};
use super::retry::Tries;
use super::roster::{AgentInfo, Assignment, NoAgent, Released, Roster, SessionId};
use super::wait_queue::{Entered, Place, QueueFull, Ticket, WaitQueue, Waiting};
use crate::coordinator::agents::peer::Network;
use crate::messages::ids::JobId;
use crate::messages::wire::{Capabilities, Heartbeat};

#[cfg(test)]
mod tests;

/// A request for a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    /// Where the request came from.
    pub(crate) client: Network,
    /// What it needs.
    pub(crate) demand: &'a Demand,
    /// The length of its frame.
    pub(crate) length: FrameLength,
    /// The id of the job that it becomes.
    pub(crate) job: JobId,
    /// Its failed tries.
    pub(crate) tries: &'a Tries,
    /// Its place in the order of arrival.
    pub(crate) ticket: Ticket,
}

/// A request that has waited and has a slot now. The caller tells the waiter.
#[derive(Debug)]
pub(crate) struct Served<L, W> {
    /// Who waits for the slot.
    pub(crate) waiter: W,
    /// The slot.
    pub(crate) assignment: Assignment<L>,
}

/// The slots of all agents, and the requests that wait for one.
pub(crate) struct Slots<L, W> {
    roster: Roster<L>,
    queue: WaitQueue<W>,
}

impl<L: Clone, W> Slots<L, W> {
    /// No agents, a queue for so many requests, and frames of up to so many bytes.
    pub(crate) fn new(queue_length: usize, longest_job: usize) -> Self {
        Self { roster: Roster::new(longest_job), queue: WaitQueue::new(queue_length) }
    }

    /// The agents, to read.
    pub(crate) fn roster(&self) -> &Roster<L> {
        &self.roster
    }

    /// The number of requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Books a free slot.
    pub(crate) fn book(&mut self, claim: Claim<'_>) -> Result<Assignment<L>, NoAgent> {
        self.roster.assign(claim.demand, claim.length, claim.tries, claim.job)
    }

    /// Lets a request wait. There must be no free slot for it: [`Self::book`] has returned [`NoAgent::Full`] or
    /// [`NoAgent::Away`].
    pub(crate) fn wait(&mut self, claim: Claim<'_>, waiter: W) -> Result<Entered<W>, QueueFull> {
        let waiting = Waiting { job: claim.job, length: claim.length, tries: claim.tries.clone(), waiter };
        self.queue.enter(claim.client, claim.demand, claim.ticket, waiting)
    }

    /// Removes a request from the queue. `false` if it has a slot by now, or has lost its place.
    pub(crate) fn withdraw(&mut self, place: &Place) -> bool {
        self.queue.leave(place).is_some()
    }

    /// Empties the queue.
    pub(crate) fn dismiss(&mut self) -> impl Iterator<Item = W> {
        self.queue.clear().map(|waiting| waiting.waiter)
    }

    /// Adds an agent without offers. An older session of the same key is removed, and its link is returned if it has a connection.
    pub(crate) fn join(&mut self, info: AgentInfo<L>) -> (SessionId, Option<L>) {
        self.roster.join(info)
    }

    /// The session of an agent goes on over another connection, without an offer. See [`Roster::rejoin`].
    pub(crate) fn rejoin(&mut self, session: SessionId, info: AgentInfo<L>) -> Option<L> {
        self.roster.rejoin(session, info)
    }

    /// Takes an agent off the roster until it returns. Its jobs and its turns stay.
    pub(crate) fn part(&mut self, session: SessionId) {
        self.roster.part(session);
    }

    /// Removes an agent and its jobs.
    pub(crate) fn leave(&mut self, session: SessionId) {
        self.roster.leave(session);
        self.queue.forget(session);
    }

    /// Replaces an agent's offer.
    pub(crate) fn offer(&mut self, session: SessionId, offer: Capabilities) -> Vec<Served<L, W>> {
        self.roster.offer(session, offer);
        self.serve(session)
    }

    /// Records that an agent will stop. Requests that it was the last to wait for leave the queue, and their waiters are
    /// returned. `None` if it is known that it will stop, or if the agent is gone.
    pub(crate) fn drain(&mut self, session: SessionId) -> Option<Vec<W>> {
        if !self.roster.drain(session) {
            return None;
        }
        let roster = &self.roster;
        let waits_in_vain = |demand: &Demand, Waiting { length, tries, .. }: &Waiting<W>| {
            roster.may_get(session, demand, *length, tries) && !roster.may_ever_get(demand, *length, tries)
        };
        Some(self.queue.remove_all(waits_in_vain).into_iter().map(|waiting| waiting.waiter).collect())
    }

    /// Stores an agent's heartbeat.
    pub(crate) fn heartbeat(&mut self, session: SessionId, figures: Heartbeat) {
        self.roster.heartbeat(session, figures);
    }

    /// Frees the slot of a job that its agent has completed.
    pub(crate) fn complete(&mut self, session: SessionId, job: JobId) -> Vec<Served<L, W>> {
        self.roster.complete(session, job);
        self.serve(session)
    }

    /// Frees the slot of a job that its agent has refused because it is full.
    pub(crate) fn refuse(&mut self, session: SessionId, job: JobId) -> Vec<Served<L, W>> {
        self.roster.refuse(session, job);
        self.serve(session)
    }

    /// Lets an agent have jobs again as if it had refused none.
    pub(crate) fn forget_refusals(&mut self, session: SessionId) -> Vec<Served<L, W>> {
        self.roster.forget_refusals(session);
        self.serve(session)
    }

    /// Frees a job's slot, if it had one.
    pub(crate) fn release(&mut self, session: SessionId, job: JobId) -> (Released<L>, Vec<Served<L, W>>) {
        let released = self.roster.release(session, job);
        let is_free = matches!(released, Released::Connected(_));
        (released, if is_free { self.serve(session) } else { Vec::new() })
    }

    /// Gives the free slots of an agent to requests that wait.
    fn serve(&mut self, session: SessionId) -> Vec<Served<L, W>> {
        let mut served = Vec::new();
        while !self.queue.is_empty() {
            let roster = &self.roster;
            let has_slot = |demand: &Demand| roster.has_slot(session, demand);
            let may_get =
                |demand: &Demand, waiting: &Waiting<W>| roster.may_get(session, demand, waiting.length, &waiting.tries);
            let next = self.queue.next(session, has_slot, may_get);
            let Some((demand, Waiting { job, waiter, .. })) = next else { break };
            // An agent that has a slot is there.
            let Some(assignment) = self.roster.book(session, &demand.model, job) else { break };
            served.push(Served { waiter, assignment });
        }
        served
    }
}
