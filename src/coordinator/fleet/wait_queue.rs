//! Requests that wait for a slot. Pure: [`slots`](super::slots) enters them, and takes them out for agents that have a slot.
//!
//! A client is a network from which requests come. There is only one API key, so the key does not tell clients apart.
//!
//! The requests of a client wait in the order of their arrival. Clients take turns, at each agent for itself: a slot goes to
//! the client that has waited longest since this agent last took one of its requests. So a client with many requests delays
//! only itself, and a client whose requests another agent takes loses nothing at this one.
//!
//! The number of requests is bounded. If the queue is full, a client that has fewer requests in it than another one gets a
//! place all the same: the newest request of the client with the most requests loses its place.

use std::collections::BTreeMap;

use super::demand::{Demand, FrameLength};
use super::retry::Tries;
use super::roster::SessionId;
use crate::coordinator::agents::peer::Network;
use crate::messages::ids::JobId;

#[cfg(test)]
mod tests;

/// The place of a request in the order of arrival. It keeps it if it enters the queue again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// Where a request waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    client: Network,
    demand: Demand,
    ticket: Ticket,
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Waiting<W> {
    /// The id of the job that it becomes.
    pub(crate) job: JobId,
    /// The length of its frame.
    pub(crate) length: FrameLength,
    /// Its failed tries.
    pub(crate) tries: Tries,
    /// Who waits for the slot.
    pub(crate) waiter: W,
}

/// A request that has entered the queue.
#[derive(Debug)]
pub(crate) struct Entered<W> {
    /// Its place.
    pub(crate) place: Place,
    /// The request that lost its place to it.
    pub(crate) displaced: Option<W>,
}

/// There are as many requests in the queue as it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// The requests of one client, never empty.
struct Line<W> {
    /// When the client's first request entered, on the clock of turns.
    entered: u64,
    /// When an agent last took a request of the client, on the clock of turns.
    taken: BTreeMap<SessionId, u64>,
    /// Its requests by what they need, each in the order of arrival. No inner map is empty.
    requests: BTreeMap<Demand, BTreeMap<Ticket, Waiting<W>>>,
}

impl<W> Line<W> {
    fn len(&self) -> usize {
        self.requests.values().map(BTreeMap::len).sum()
    }

    /// The moment from which the client has waited for its turn at this agent.
    fn waits_since(&self, agent: SessionId) -> u64 {
        self.taken.get(&agent).copied().unwrap_or(self.entered)
    }

    /// The oldest request for which an agent has a slot and that it may get.
    fn first_that_fits(
        &self,
        has_slot: impl Fn(&Demand) -> bool,
        may_get: impl Fn(&Demand, &Waiting<W>) -> bool,
    ) -> Option<(Ticket, &Demand)> {
        let with_slot = self.requests.iter().filter(|(demand, _)| has_slot(demand));
        let first_of_each = with_slot.filter_map(|(demand, same)| {
            let (ticket, _) = same.iter().find(|(_, waiting)| may_get(demand, waiting))?;
            Some((*ticket, demand))
        });
        first_of_each.min()
    }

    fn remove(&mut self, demand: &Demand, ticket: Ticket) -> Option<Waiting<W>> {
        let same = self.requests.get_mut(demand)?;
        let removed = same.remove(&ticket);
        if same.is_empty() {
            self.requests.remove(demand);
        }
        removed
    }

    fn remove_newest(&mut self) -> Option<Waiting<W>> {
        let newest = self.requests.iter().filter_map(|(demand, same)| Some((*same.last_key_value()?.0, demand)));
        let (ticket, demand) = newest.max().map(|(ticket, demand)| (ticket, demand.clone()))?;
        self.remove(&demand, ticket)
    }
}

/// The requests that wait for a slot.
pub(crate) struct WaitQueue<W> {
    /// The most requests.
    limit: usize,
    lines: BTreeMap<Network, Line<W>>,
    /// The clock of turns: moves on whenever a client enters or an agent takes a request.
    turns: u64,
}

impl<W> WaitQueue<W> {
    /// A queue for so many requests.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, lines: BTreeMap::new(), turns: 0 }
    }

    /// The number of requests.
    pub(crate) fn len(&self) -> usize {
        self.lines.values().map(Line::len).sum()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a request. No two in the queue have the same ticket.
    pub(crate) fn enter(
        &mut self,
        client: Network,
        demand: &Demand,
        ticket: Ticket,
        waiting: Waiting<W>,
    ) -> Result<Entered<W>, QueueFull> {
        let displaced = if self.len() < self.limit { None } else { Some(self.make_room(client)?) };
        let turns = &mut self.turns;
        let line = self.lines.entry(client).or_insert_with(|| {
            *turns += 1;
            Line { entered: *turns, taken: BTreeMap::new(), requests: BTreeMap::new() }
        });
        line.requests.entry(demand.clone()).or_default().insert(ticket, waiting);
        Ok(Entered { place: Place { client, demand: demand.clone(), ticket }, displaced })
    }

    /// Removes the newest request of the client with the most requests, if this client still has no more than that one with
    /// another request.
    fn make_room(&mut self, client: Network) -> Result<W, QueueFull> {
        let own = self.lines.get(&client).map_or(0, Line::len);
        let longest = self.lines.iter().max_by_key(|(_, line)| line.len());
        let (longest, _) = longest.filter(|(_, line)| line.len() > own + 1).ok_or(QueueFull)?;
        let longest = *longest;
        let removed = self.lines.get_mut(&longest).and_then(Line::remove_newest).ok_or(QueueFull)?;
        Ok(removed.waiter)
    }

    /// Removes a request. `None` if it is no longer in the queue.
    pub(crate) fn leave(&mut self, place: &Place) -> Option<Waiting<W>> {
        let line = self.lines.get_mut(&place.client)?;
        let left = line.remove(&place.demand, place.ticket);
        if line.requests.is_empty() {
            self.lines.remove(&place.client);
        }
        left
    }

    /// Removes the request that is next for an agent. `has_slot` tells for which demands the agent has a slot, and `may_get`
    /// whether it may get this request with that demand. `None` if no request fits.
    pub(crate) fn next(
        &mut self,
        agent: SessionId,
        has_slot: impl Fn(&Demand) -> bool,
        may_get: impl Fn(&Demand, &Waiting<W>) -> bool,
    ) -> Option<(Demand, Waiting<W>)> {
        let clients = self.lines.iter().filter_map(|(client, line)| {
            let (ticket, demand) = line.first_that_fits(&has_slot, &may_get)?;
            Some((line.waits_since(agent), *client, ticket, demand))
        });
        let (_, client, ticket, demand) = clients.min()?;
        let place = Place { client, demand: demand.clone(), ticket };
        self.turns += 1;
        if let Some(line) = self.lines.get_mut(&client) {
            line.taken.insert(agent, self.turns);
        }
        self.leave(&place).map(|waiting| (place.demand, waiting))
    }

    /// Removes the requests that are like this.
    pub(crate) fn remove_all(&mut self, is_like_this: impl Fn(&Demand, &Waiting<W>) -> bool) -> Vec<Waiting<W>> {
        let mut places = Vec::new();
        for (client, line) in &self.lines {
            for (demand, same) in &line.requests {
                let removed = same.iter().filter(|(_, waiting)| is_like_this(demand, waiting));
                places.extend(removed.map(|(ticket, _)| Place {
                    client: *client,
                    demand: demand.clone(),
                    ticket: *ticket,
                }));
            }
        }
        places.iter().filter_map(|place| self.leave(place)).collect()
    }

    /// Forgets the turns at an agent that is gone.
    pub(crate) fn forget(&mut self, agent: SessionId) {
        for line in self.lines.values_mut() {
            line.taken.remove(&agent);
        }
    }

    /// Removes all requests.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Waiting<W>> {
        let lines = std::mem::take(&mut self.lines).into_values();
        lines.flat_map(|line| line.requests.into_values().flat_map(BTreeMap::into_values))
    }
}
