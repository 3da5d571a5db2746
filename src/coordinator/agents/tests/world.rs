//! Both ends and the connections between them, and everything that can happen next.

use std::time::Instant;

use super::agent::Agent;
use super::coordinator::{Coordinator, Fate};
use super::link::{AgentEnd, CoordinatorEnd, Down, Link};
use crate::core::fingerprint::Fingerprint;
use crate::messages::ids::{Generation, JobId};
use crate::messages::jobs::Ticket;
use crate::messages::wire::Extensions;

/// What a world has, and how often what is not its ordinary work may happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) jobs: u8,
    /// Backends, of one slot each.
    pub(super) slots: u32,
    /// Jobs that the agent may have beyond them, as an operator may configure it, and which the coordinator sends.
    pub(super) excess: u32,
    /// The longest response.
    pub(super) bytes: u64,
    /// Frames on their way beyond which neither end sends more of its own accord, in each direction.
    pub(super) room: usize,
    /// Connections that are cut.
    pub(super) cuts: u8,
    /// Of those, the ones that one end may notice later than the other.
    pub(super) late: u8,
    /// Clients that go away.
    pub(super) cancels: u8,
    pub(super) handovers: u8,
    /// Restarts of the coordinator, which forget its session.
    pub(super) restarts: u8,
    /// Times that pass until something is due.
    pub(super) ticks: u8,
    /// Jobs that a backend fails before the first byte.
    pub(super) failures: u8,
    /// Steps of a shutdown of the agent.
    pub(super) stops: u8,
    /// Acknowledgements of bytes before the end of a response.
    pub(super) acks: u8,
    pub(super) resumes: bool,
    /// Messages within a process arrive at once, and a response is produced in one piece.
    pub(super) is_coarse: bool,
    /// Backends report their load.
    pub(super) reports: bool,
}

impl Bounds {
    /// One job and nothing that goes wrong.
    pub(super) const LEAST: Self = Self {
        jobs: 1,
        slots: 1,
        excess: 0,
        bytes: 1,
        room: 1,
        cuts: 0,
        late: 0,
        cancels: 0,
        handovers: 0,
        restarts: 0,
        ticks: 0,
        failures: 0,
        stops: 0,
        acks: 0,
        resumes: true,
        is_coarse: false,
        reports: false,
    };
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    // Not the ordinary work.
    Send,
    Acknowledge(Generation),
    LeaveClient(JobId),
    FailTry(Ticket),
    Cut(Generation, End),
    Handover,
    Restart,
    Tick,
    /// The deadline of a handover passes.
    HandoverEnds(Generation),
    Stop,
    // The ordinary work, which goes on until there is nothing to do.
    Dial,
    AgentReads(Generation),
    CoordinatorReads(Generation),
    Command(Generation),
    /// An end notices that the other one is gone.
    Notice(Generation),
    Produce(Ticket),
    Finish(Ticket),
    Write(Ticket),
    TakeEnd,
    /// Time passes for a job that waits for a slot.
    Wait,
}

/// Where it is noticed at first that a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Agent,
    Coordinator,
    Both,
}

impl Action {
    /// Whether it is the ordinary work.
    pub(super) fn is_work(self) -> bool {
        !matches!(
            self,
            Self::Send
                | Self::Acknowledge(_)
                | Self::LeaveClient(_)
                | Self::FailTry(_)
                | Self::Cut(..)
                | Self::Handover
                | Self::Restart
                | Self::Tick
                | Self::HandoverEnds(_)
                | Self::Stop
        )
    }
}

#[derive(Clone)]
pub(super) struct World {
    /// What may still happen.
    left: Bounds,
    now: Instant,
    pub(super) agent: Agent,
    pub(super) coordinator: Coordinator,
    pub(super) links: Vec<Link>,
}

impl World {
    pub(super) fn new(bounds: Bounds) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
        let now = Instant::now();
        let agreed = if bounds.resumes { Extensions::all() } else { Extensions::without_resume() };
        let agent = Agent::new(now, &bounds, agreed);
        Self { left: bounds, now, agent, coordinator: Coordinator::new(&bounds, agreed), links: Vec::new() }
    }

    /// Everything that can happen next. An action may turn out to change nothing.
    pub(super) fn actions(&self) -> Vec<Action> {
        let (left, mut all) = (&self.left, Vec::new());
        if self.agent.may_dial(&self.links) {
            all.push(Action::Dial);
        }
        for link in &self.links {
            self.add_actions_of(link, &mut all);
        }
        for (ticket, (_, may_retry)) in &self.agent.working {
            all.push(Action::Finish(*ticket));
            let is_coarse = left.is_coarse;
            let work = self.agent.router.works().find(|(id, _)| id == ticket).expect("a job at work").1;
            if !is_coarse && work.delivery.produced() < left.bytes {
                all.push(Action::Produce(*ticket));
            }
            if left.failures > 0 && *may_retry && work.delivery.produced() == 0 {
                all.push(Action::FailTry(*ticket));
            }
        }
        let writable = self.agent.router.works().filter(|(_, work)| self.agent.may_write(work, left.room, &self.links));
        all.extend(writable.map(|(ticket, _)| Action::Write(ticket)));
        if !self.agent.ends.is_empty() {
            all.push(Action::TakeEnd);
        }
        if left.cancels > 0 {
            let waiting = self.coordinator.clients.iter().filter(|(_, fate)| *fate == Fate::Waits);
            all.extend(waiting.map(|(job, _)| Action::LeaveClient(*job)));
        }
        if self.coordinator.clients.iter().any(|(_, fate)| *fate == Fate::Unsent) {
            all.push(Action::Send);
        }
        if left.reports && self.agent.has_waiting() {
            all.push(Action::Wait);
        }
        if left.ticks > 0 && self.due_at().is_some() {
            all.push(Action::Tick);
        }
        if left.stops > 0 {
            all.push(Action::Stop);
        }
        if left.restarts > 0 {
            all.push(Action::Restart);
        }
        all
    }

    fn add_actions_of(&self, link: &Link, all: &mut Vec<Action>) {
        let id = link.generation;
        if link.agent != AgentEnd::Gone && !link.down.is_empty() {
            all.push(Action::AgentReads(id));
        }
        if link.coordinator != CoordinatorEnd::Gone && !link.up.is_empty() {
            all.push(Action::CoordinatorReads(id));
        }
        if !link.commands.is_empty() {
            all.push(Action::Command(id));
        }
        if self.left.acks > 0 && self.coordinator.may_acknowledge(id) && link.down.len() < self.left.room {
            all.push(Action::Acknowledge(id));
        }
        if link.is_half_open() {
            all.push(Action::Notice(id));
        } else if self.left.cuts > 0 {
            all.push(Action::Cut(id, End::Both));
            if self.left.late > 0 {
                all.extend([End::Agent, End::Coordinator].map(|end| Action::Cut(id, end)));
            }
        }
        if self.left.ticks > 0 && link.is_handed_over && matches!(link.agent, AgentEnd::Up | AgentEnd::ClosesBehind) {
            all.push(Action::HandoverEnds(id));
        }
        let is_admitted = matches!(link.coordinator, CoordinatorEnd::Admitted(_));
        if is_admitted && self.left.handovers > 0 && link.down.len() < self.left.room {
            all.push(Action::Handover);
        }
    }

    /// Does an action. False: it changes nothing.
    pub(super) fn act(&mut self, action: Action) -> bool {
        let (now, left) = (self.now, &mut self.left);
        let (agent, coordinator, links) = (&mut self.agent, &mut self.coordinator, &mut self.links);
        let place = |links: &[Link], id| links.iter().position(|link| link.generation == id).expect("a connection");
        match action {
            Action::Send => {
                if !coordinator.send(left.room, links) {
                    return false;
                }
            }
            Action::LeaveClient(job) => {
                left.cancels -= 1;
                coordinator.leave_client(job, links);
            }
            Action::FailTry(ticket) => {
                left.failures -= 1;
                agent.fail_try(now, ticket, links);
            }
            Action::Cut(id, end) => {
                left.cuts -= 1;
                left.late -= u8::from(end != End::Both);
                if end != End::Agent {
                    coordinator.leave(now, place(links, id), links);
                }
                if end != End::Coordinator {
                    agent.lose(now, id, links);
                }
            }
            Action::Handover => {
                left.handovers -= 1;
                let admitted = |link: &&mut Link| matches!(link.coordinator, CoordinatorEnd::Admitted(_));
                links.iter_mut().filter(admitted).for_each(|link| link.down.push_back(Down::Handover));
            }
            Action::Restart => {
                left.restarts -= 1;
                coordinator.restart(links);
            }
            Action::Tick => {
                left.ticks -= 1;
                self.tick();
            }
            Action::Wait => self.tick(),
            Action::Stop => {
                left.stops -= 1;
                agent.stop(now, left.stops == 0, links);
            }
            Action::Dial => agent.dial(now, links),
            Action::AgentReads(id) => agent.read(now, place(links, id), links),
            Action::CoordinatorReads(id) => coordinator.read(now, place(links, id), links),
            Action::Command(id) => coordinator.command(now, place(links, id), links),
            Action::Acknowledge(id) => {
                left.acks -= 1;
                coordinator.acknowledge(place(links, id), links);
            }
            Action::Notice(id) => match links[place(links, id)].agent {
                AgentEnd::Gone => coordinator.leave(now, place(links, id), links),
                _ => agent.lose(now, id, links),
            },
            Action::HandoverEnds(id) => {
                left.ticks -= 1;
                agent.seal(id, links);
            }
            Action::Produce(ticket) => agent.produce(ticket),
            Action::Finish(ticket) => {
                let whole = if left.is_coarse { left.bytes } else { 0 };
                (0..whole).for_each(|_| agent.produce(ticket));
                agent.end(ticket, true);
            }
            Action::Write(ticket) => agent.write(ticket, links),
            Action::TakeEnd => agent.take_end(now, links),
        }
        if self.left.is_coarse {
            self.deliver_within();
        }
        self.links.iter_mut().for_each(Link::drop_lost);
        self.links.retain(|link| !link.is_over());
        true
    }

    /// Checks what holds in each state.
    pub(super) fn check(&mut self) {
        self.agent.check();
        self.coordinator.check(&self.links);
    }

    /// Delivers the messages within each process.
    fn deliver_within(&mut self) {
        while !self.agent.ends.is_empty() {
            self.agent.take_end(self.now, &mut self.links);
        }
        while let Some(at) = self.links.iter().position(|link| !link.commands.is_empty()) {
            self.coordinator.command(self.now, at, &mut self.links);
        }
        // A handover does not wait.
        if self.agent.is_handed_over(&self.links) && self.agent.may_dial(&self.links) {
            self.agent.dial(self.now, &mut self.links);
        }
    }

    /// When something is due at either end.
    fn due_at(&self) -> Option<Instant> {
        [self.agent.wake_at, self.coordinator.ends_at()].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let Some(at) = self.due_at() else { return };
        self.now = self.now.max(at);
        if self.agent.wake_at.is_some_and(|at| at <= self.now) {
            self.agent.tick(self.now, &mut self.links);
        }
        self.coordinator.tick(self.now);
    }

    /// Whether nothing is left to do: the agent is connected and can get a job, and nothing is kept at either end.
    pub(super) fn is_quiet(&self) -> bool {
        let is_up = self.links.iter().all(|link| link.agent == AgentEnd::Up);
        is_up && self.agent.is_quiet() && self.coordinator.is_quiet(&self.links)
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let Self { left, now, agent, coordinator, links } = self;
        let connections: Vec<Generation> = links.iter().map(|link| link.generation).collect();
        let name = coordinator.session.as_ref().and_then(|(_, session)| session.name.as_ref());
        let expected: Vec<JobId> = links.iter().flat_map(Link::jobs).collect();
        let mut print = Fingerprint::new(*now, &connections, name, &expected);
        let Bounds { cuts, late, cancels, handovers, restarts, ticks, failures, stops, acks, .. } = left;
        print.add((cuts, late, cancels, handovers, restarts, ticks, failures, stops, acks));
        agent.add_to(&mut print);
        coordinator.add_to(&mut print);
        links.iter().enumerate().for_each(|(at, link)| link.add_to(at, &mut print));
        print.finish()
    }
}
