use std::collections::BTreeMap;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::coordinator::agents::handshake::AgentKey;
use crate::coordinator::agents::peer::Peer;
use crate::coordinator::fleet::job_result::JobResult;
use crate::coordinator::fleet::retry::Failure;
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::{ErrorCode, Extension, Limits, Metadata, ModelOffer};

mod rules;

const MODELS: [&str; 3] = ["a", "b", "c"];
const QUEUE: usize = 6;
/// Bytes of a frame that each agent takes.
const SMALL: usize = 100;
/// Bytes of a frame that some agents take.
const LARGE: usize = 200;

fn network(client: u8) -> Network {
    Peer(Some(([192, 0, 2, client], 1).into())).network()
}

fn demand(model: usize) -> Demand {
    Demand { model: MODELS[model].into(), endpoint: Endpoint::ChatCompletions }
}

fn agent_info(agent: u8) -> AgentInfo<u8> {
    let key = AgentKey([agent; 32]);
    let (provider, since) = (key.provider_id().unwrap(), SystemTime::UNIX_EPOCH);
    let extensions = [Extension::Sizes].into_iter().collect();
    AgentInfo { key, provider, version: "1".into(), extensions, since, link: agent }
}

/// An offer of these models, each with its slots, for frames of up to so many bytes.
fn offer_for(length: usize, total: u32, models: &[(usize, u32)]) -> Capabilities {
    let model = |(model, slots): &(usize, u32)| ModelOffer {
        model_id: MODELS[*model].into(),
        input_per_1m: 1,
        output_per_1m: 1,
        max_concurrent: *slots,
        backend: "ollama".into(),
        context_window: None,
        endpoints: None,
    };
    Capabilities {
        models: models.iter().map(model).collect(),
        limits: Limits {
            max_concurrent_total: total,
            max_tokens_per_minute: None,
            max_message_bytes: Some(length as u64),
        },
        metadata: Metadata { agent_version: "1".into() },
    }
}

fn offer(total: u32, models: &[(usize, u32)]) -> Capabilities {
    offer_for(LARGE, total, models)
}

/// A request, with what it needs.
#[derive(Clone, Debug)]
struct Request {
    client: u8,
    model: usize,
    /// Bytes of its frame.
    length: usize,
    tries: Tries,
    ticket: Ticket,
}

/// A request that waits, as the test knows it.
struct Known {
    number: usize,
    request: Request,
    job: JobId,
    place: Place,
}

/// A job that has a slot.
struct Running {
    session: SessionId,
    agent: AgentKey,
    job: JobId,
    request: Request,
}

/// The slots under test, and all that it gave.
struct World {
    slots: Slots<u8, usize>,
    sessions: BTreeMap<u8, SessionId>,
    /// Those without a connection.
    away: BTreeMap<u8, SessionId>,
    waiting: Vec<Known>,
    running: Vec<Running>,
    requests: usize,
    arrivals: u64,
}

impl World {
    fn new() -> Self {
        let (waiting, running) = Default::default();
        let (sessions, away) = Default::default();
        Self { slots: Slots::new(QUEUE, LARGE), sessions, away, waiting, running, requests: 0, arrivals: 0 }
    }

    /// A small request arrives.
    fn arrive(&mut self, client: u8, model: usize) {
        self.arrive_with(SMALL, client, model);
    }

    fn arrive_with(&mut self, length: usize, client: u8, model: usize) {
        self.arrivals += 1;
        let (tries, ticket) = (Tries::default(), Ticket(self.arrivals));
        self.claim(Request { client, model, length, tries, ticket });
    }

    /// A request arrives, or comes back after a failed try.
    fn claim(&mut self, request: Request) {
        let Request { client, model, length, ref tries, ticket } = request;
        let (demand, job, client) = (demand(model), JobId::random(), network(client));
        let claim = Claim { client, demand: &demand, length: FrameLength::of(length), job, tries, ticket };
        match self.slots.book(claim) {
            Ok(Assignment { session, key: agent, .. }) => {
                self.running.push(Running { session, agent, job, request });
            }
            Err(NoAgent::Full | NoAgent::Away) => {
                self.requests += 1;
                let number = self.requests;
                let Ok(Entered { place, displaced }) = self.slots.wait(claim, number) else { return };
                self.waiting.retain(|other| Some(other.number) != displaced);
                self.waiting.push(Known { number, request, job, place });
            }
            Err(_) => {}
        }
    }

    fn serve(&mut self, served: Vec<Served<u8, usize>>) {
        for Served { waiter, assignment } in served {
            let at = self.waiting.iter().position(|known| known.number == waiter).unwrap();
            let Known { request, job, .. } = self.waiting.remove(at);
            let (session, agent) = (assignment.session, assignment.key);
            assert!(!request.tries.rule_out(agent));
            self.running.push(Running { session, agent, job, request });
        }
    }

    /// The place of the nth job among those of agents with a connection.
    fn nth_connected(&self, nth: usize) -> Option<usize> {
        let is_here = |running: &Running| self.sessions.values().any(|session| *session == running.session);
        self.running.iter().enumerate().filter(|(_, running)| is_here(running)).nth(nth).map(|(at, _)| at)
    }

    /// After this agent began to drain.
    fn check_drain(&self, session: SessionId) {
        let roster = self.slots.roster();
        for Known { number, request, .. } in &self.waiting {
            let (demand, length) = (demand(request.model), FrameLength::of(request.length));
            let waits_for_it = roster.may_get(session, &demand, length, &request.tries);
            assert!(!waits_for_it || roster.may_ever_get(&demand, length, &request.tries), "{number} waits in vain");
        }
    }

    fn check(&self) {
        let roster = self.slots.roster();
        for Known { number, request, .. } in &self.waiting {
            let (demand, length) = (demand(request.model), FrameLength::of(request.length));
            for session in self.sessions.values() {
                let may_get = roster.may_get(*session, &demand, length, &request.tries);
                assert!(!(may_get && roster.has_slot(*session, &demand)), "SLOTS-1: {number} waits beside a free slot");
            }
        }
        assert_eq!(self.slots.waiting(), self.waiting.len());
        let away = self.running.iter().filter(|running| self.away.values().any(|away| *away == running.session));
        let away = away.count();
        assert_eq!((roster.in_flight(), roster.waiting()), (self.running.len() - away, away));
        assert!(self.waiting.len() <= QUEUE);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    Offer {
        agent: u8,
        length: usize,
        total: u32,
        models: Vec<(usize, u32)>,
    },
    /// The agent loses its connection.
    Part(u8),
    /// It is back, without an offer yet.
    Return(u8),
    Leave(u8),
    Drain(u8),
    Claim {
        client: u8,
        model: usize,
        length: usize,
    },
    /// The nth running job ends well.
    Complete(usize),
    /// The nth running job is cancelled.
    Release(usize),
    /// The nth running job fails, and its request comes back.
    Fail(usize, ErrorCode),
    ForgetRefusals(u8),
    /// The client of the nth waiting request goes away.
    Withdraw(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let agent = || 1..4_u8;
    let models = prop::collection::vec((0..MODELS.len(), 0..4_u32), 0..4);
    let codes = prop_oneof![Just(ErrorCode::OutOfCapacity), Just(ErrorCode::Internal)];
    let length = || prop_oneof![Just(SMALL), Just(LARGE)];
    let step = prop_oneof![
        2 => agent().prop_map(Step::Join),
        4 => (agent(), length(), 0..5_u32, models)
            .prop_map(|(agent, length, total, models)| Step::Offer { agent, length, total, models }),
        1 => agent().prop_map(Step::Part),
        1 => agent().prop_map(Step::Return),
        1 => agent().prop_map(Step::Leave),
        1 => agent().prop_map(Step::Drain),
        9 => (0..3_u8, 0..MODELS.len(), length())
            .prop_map(|(client, model, length)| Step::Claim { client, model, length }),
        3 => (0..9_usize).prop_map(Step::Complete),
        2 => (0..9_usize).prop_map(Step::Release),
        4 => (0..9_usize, codes).prop_map(|(nth, code)| Step::Fail(nth, code)),
        3 => agent().prop_map(Step::ForgetRefusals),
        1 => (0..9_usize).prop_map(Step::Withdraw),
    ];
    prop::collection::vec(step, 1..100)
}

proptest! {
    #[test]
    fn no_request_waits_beside_a_slot_that_it_may_have(steps in steps()) {
        let mut world = World::new();
        for agent in 1..4 {
            world.sessions.insert(agent, world.slots.join(agent_info(agent)).0);
        }
        for step in steps {
            match step {
                Step::Join(agent) => {
                    let (session, replaced) = world.slots.join(agent_info(agent));
                    let older = world.sessions.insert(agent, session);
                    prop_assert_eq!(replaced.is_some(), older.is_some());
                    let older = older.or(world.away.remove(&agent));
                    world.running.retain(|running| Some(running.session) != older);
                }
                Step::Offer { agent, length, total, models } => {
                    let Some(session) = world.sessions.get(&agent) else { continue };
                    let served = world.slots.offer(*session, offer_for(length, total, &models));
                    world.serve(served);
                }
                Step::Part(agent) => {
                    let Some(session) = world.sessions.remove(&agent) else { continue };
                    world.slots.part(session);
                    world.away.insert(agent, session);
                }
                Step::Return(agent) => {
                    let Some(session) = world.away.remove(&agent) else { continue };
                    prop_assert_eq!(world.slots.rejoin(session, agent_info(agent)), None);
                    world.sessions.insert(agent, session);
                }
                Step::Leave(agent) => {
                    let Some(session) = world.sessions.remove(&agent).or(world.away.remove(&agent)) else { continue };
                    world.slots.leave(session);
                    world.running.retain(|running| running.session != session);
                }
                Step::Drain(agent) => {
                    let Some(session) = world.sessions.get(&agent) else { continue };
                    let Some(in_vain) = world.slots.drain(*session) else { continue };
                    world.waiting.retain(|known| !in_vain.contains(&known.number));
                    world.check_drain(*session);
                }
                Step::Claim { client, model, length } => world.arrive_with(length, client, model),
                Step::Complete(nth) => {
                    let Some(at) = world.nth_connected(nth) else { continue };
                    let Running { session, job, .. } = world.running.remove(at);
                    let served = world.slots.complete(session, job);
                    world.serve(served);
                }
                Step::Release(nth) => {
                    if nth >= world.running.len() { continue }
                    let Running { session, job, .. } = world.running.remove(nth);
                    let is_away = world.away.values().any(|away| *away == session);
                    let (released, served) = world.slots.release(session, job);
                    prop_assert_eq!(matches!(released, Released::Away), is_away);
                    prop_assert_eq!(matches!(released, Released::Connected(_)), !is_away);
                    world.serve(served);
                }
                Step::Fail(nth, code) => {
                    let Some(at) = world.nth_connected(nth) else { continue };
                    let Running { session, agent, job, mut request } = world.running.remove(at);
                    let served = match code {
                        ErrorCode::OutOfCapacity => world.slots.refuse(session, job),
                        _ => world.slots.release(session, job).1,
                    };
                    world.serve(served);
                    if request.tries.record(agent, Failure::of(JobResult::Agent(code)), true) {
                        world.claim(request);
                    }
                }
                Step::ForgetRefusals(agent) => {
                    let Some(session) = world.sessions.get(&agent) else { continue };
                    let served = world.slots.forget_refusals(*session);
                    world.serve(served);
                }
                Step::Withdraw(nth) => {
                    if nth >= world.waiting.len() { continue }
                    let Known { place, .. } = world.waiting.remove(nth);
                    prop_assert!(world.slots.withdraw(&place));
                    prop_assert!(!world.slots.withdraw(&place));
                }
            }
            world.check();
        }
        let waiting = world.waiting.len();
        prop_assert_eq!(world.slots.dismiss().count(), waiting);
        prop_assert_eq!(world.slots.waiting(), 0);
    }
}
