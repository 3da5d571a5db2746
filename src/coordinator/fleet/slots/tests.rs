use std::collections::BTreeMap;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::coordinator::agents::handshake::AgentKey;
use crate::coordinator::fleet::job_result::JobResult;
use crate::coordinator::fleet::retry::Failure;
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::{ErrorCode, Extensions, Limits, Metadata, ModelOffer};

const MODELS: [&str; 3] = ["a", "b", "c"];
const QUEUE: usize = 6;

fn demand(model: usize) -> Demand {
    Demand { model: MODELS[model].into(), endpoint: Endpoint::ChatCompletions }
}

fn agent_info(agent: u8) -> AgentInfo<u8> {
    let key = AgentKey([agent; 32]);
    let (provider, since) = (key.provider_id().unwrap(), SystemTime::UNIX_EPOCH);
    AgentInfo { key, provider, version: "1".into(), extensions: Extensions::NONE, since, link: agent }
}

/// An offer of these models, each with its slots.
fn offer(total: u32, models: &[(usize, u32)]) -> Capabilities {
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
        limits: Limits { max_concurrent_total: total, max_tokens_per_minute: None },
        metadata: Metadata { agent_version: "1".into() },
    }
}

/// A request that waits, as the test knows it.
struct Known {
    request: usize,
    model: usize,
    job: JobId,
    tries: Tries,
    ticket: Ticket,
    place: Place,
}

/// A job that has a slot.
struct Running {
    session: SessionId,
    agent: AgentKey,
    job: JobId,
    model: usize,
    tries: Tries,
    ticket: Ticket,
}

/// The slots under test, and all that it gave.
struct World {
    slots: Slots<u8, usize>,
    sessions: BTreeMap<u8, SessionId>,
    waiting: Vec<Known>,
    running: Vec<Running>,
    requests: usize,
    arrivals: u64,
}

impl World {
    fn new() -> Self {
        let (sessions, waiting, running) = Default::default();
        Self { slots: Slots::new(QUEUE), sessions, waiting, running, requests: 0, arrivals: 0 }
    }

    /// A request arrives.
    fn arrive(&mut self, client: u16, model: usize) {
        self.arrivals += 1;
        self.claim(client, model, Tries::default(), Ticket(self.arrivals));
    }

    /// A request arrives, or comes back after a failed try.
    fn claim(&mut self, client: u16, model: usize, tries: Tries, ticket: Ticket) {
        let (demand, job, client) = (demand(model), JobId::random(), ClientKey::numbered(client));
        let claim = Claim { client, demand: &demand, job, tries: &tries, ticket };
        match self.slots.book(claim) {
            Ok(Assignment { session, key: agent, .. }) => {
                self.running.push(Running { session, agent, job, model, tries, ticket });
            }
            Err(NoAgent::Full) => {
                self.requests += 1;
                let request = self.requests;
                let Ok(Entered { place, displaced }) = self.slots.wait(claim, request) else { return };
                self.waiting.retain(|other| Some(other.request) != displaced);
                self.waiting.push(Known { request, model, job, tries, ticket, place });
            }
            Err(_) => {}
        }
    }

    fn serve(&mut self, served: Vec<Served<u8, usize>>) {
        for Served { waiter, assignment } in served {
            let at = self.waiting.iter().position(|known| known.request == waiter).unwrap();
            let Known { model, job, tries, ticket, .. } = self.waiting.remove(at);
            let (session, agent) = (assignment.session, assignment.key);
            assert!(!tries.rule_out(agent));
            self.running.push(Running { session, agent, job, model, tries, ticket });
        }
    }

    fn check(&self) {
        for known in &self.waiting {
            for session in self.sessions.values() {
                let roster = self.slots.roster();
                let fits = roster.has_slot(*session, &demand(known.model)) && roster.may_get(*session, &known.tries);
                assert!(!fits, "SLOTS-1: request {} waits beside a free slot", known.request);
            }
        }
        assert_eq!(self.slots.waiting(), self.waiting.len());
        assert_eq!(self.slots.roster().in_flight(), self.running.len());
        assert!(self.waiting.len() <= QUEUE);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    Offer {
        agent: u8,
        total: u32,
        models: Vec<(usize, u32)>,
    },
    Part(u8),
    Claim {
        client: u16,
        model: usize,
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
    let step = prop_oneof![
        1 => agent().prop_map(Step::Join),
        3 => (agent(), 0..5_u32, models).prop_map(|(agent, total, models)| Step::Offer { agent, total, models }),
        1 => agent().prop_map(Step::Part),
        9 => (0..3_u16, 0..MODELS.len()).prop_map(|(client, model)| Step::Claim { client, model }),
        3 => (0..9_usize).prop_map(Step::Complete),
        2 => (0..9_usize).prop_map(Step::Release),
        3 => (0..9_usize, codes).prop_map(|(nth, code)| Step::Fail(nth, code)),
        1 => agent().prop_map(Step::ForgetRefusals),
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
                    world.running.retain(|running| Some(running.session) != older);
                }
                Step::Offer { agent, total, models } => {
                    let Some(session) = world.sessions.get(&agent) else { continue };
                    let served = world.slots.offer(*session, offer(total, &models));
                    world.serve(served);
                }
                Step::Part(agent) => {
                    let Some(session) = world.sessions.remove(&agent) else { continue };
                    world.slots.leave(session);
                    world.running.retain(|running| running.session != session);
                }
                Step::Claim { client, model } => world.arrive(client, model),
                Step::Complete(nth) if nth < world.running.len() => {
                    let Running { session, job, .. } = world.running.remove(nth);
                    let served = world.slots.complete(session, job);
                    world.serve(served);
                }
                Step::Release(nth) if nth < world.running.len() => {
                    let Running { session, job, .. } = world.running.remove(nth);
                    let (released, served) = world.slots.release(session, job);
                    prop_assert!(matches!(released, Released::Connected(_)));
                    world.serve(served);
                }
                Step::Fail(nth, code) if nth < world.running.len() => {
                    let Running { session, agent, job, model, mut tries, ticket } = world.running.remove(nth);
                    let served = match code {
                        ErrorCode::OutOfCapacity => world.slots.refuse(session, job),
                        _ => world.slots.release(session, job).1,
                    };
                    world.serve(served);
                    if tries.record(agent, Failure { result: JobResult::Agent(code), blames_request: false, spares_agent: false }, true) {
                        world.claim(0, model, tries, ticket);
                    }
                }
                Step::ForgetRefusals(agent) => {
                    let Some(session) = world.sessions.get(&agent) else { continue };
                    let served = world.slots.forget_refusals(*session);
                    world.serve(served);
                }
                Step::Withdraw(nth) if nth < world.waiting.len() => {
                    let Known { place, .. } = world.waiting.remove(nth);
                    prop_assert!(world.slots.withdraw(&place));
                    prop_assert!(!world.slots.withdraw(&place));
                }
                Step::Complete(_) | Step::Release(_) | Step::Fail(..) | Step::Withdraw(_) => {}
            }
            world.check();
        }
        let waiting = world.waiting.len();
        prop_assert_eq!(world.slots.dismiss().count(), waiting);
        prop_assert_eq!(world.slots.waiting(), 0);
    }
}

#[test]
fn an_offer_serves_as_many_requests_as_it_has_slots_for_and_no_more() {
    let mut world = World::new();
    let (session, _) = world.slots.join(agent_info(1));
    world.sessions.insert(1, session);
    world.serve(Vec::new());
    drop(world.slots.offer(session, offer(4, &[(0, 0), (1, 0)])));
    for model in [0, 0, 0, 1, 1] {
        world.arrive(0, model);
    }
    assert_eq!((world.slots.waiting(), world.running.len()), (5, 0));
    let served = world.slots.offer(session, offer(4, &[(0, 1), (1, 4)]));
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [1, 4, 5]);
    world.serve(served);
    world.check();
    let (released, served) = world.slots.release(session, JobId::random());
    assert!(released == Released::NotHeld && served.is_empty());
    assert_eq!(world.slots.waiting(), 2);
}

#[test]
fn an_agent_that_was_full_gets_the_request_again_before_later_ones_when_it_has_a_slot() {
    let mut world = World::new();
    let (session, _) = world.slots.join(agent_info(1));
    drop(world.slots.offer(session, offer(2, &[(0, 2)])));
    for _ in 0..3 {
        world.arrive(0, 0);
    }
    let Running { agent, job, mut tries, ticket, .. } = world.running.remove(1);
    assert!(world.slots.refuse(session, job).is_empty(), "the third request does not take the refused one's place");
    tries.record(
        agent,
        Failure { result: JobResult::Agent(ErrorCode::OutOfCapacity), blames_request: false, spares_agent: false },
        true,
    );
    world.claim(0, 0, tries, ticket);
    assert_eq!(world.slots.waiting(), 2);
    let ended = world.running.remove(0).job;
    let served = world.slots.complete(session, ended);
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [2], "one slot, one request");
}
