//! Random sequences of inputs, in virtual time: servers that start, stop, slow down, fill up, fail and report wrong loads,
//! jobs of every kind, cancels at any moment, lost connections, lost workers, and inputs that arrive late or twice.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::super::*;
use super::server::{Known, Mood, Server};
use super::submission::{Fate, Request};
use super::world::{BUDGET, MODELS, World, ms};
use crate::core::scheduling::catalog::BackendPolicy;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ModelReport};
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::ModelId;
use crate::messages::prices::Price;

/// Lengths of prompts, in bytes.
const PROMPTS: [usize; 4] = [0, 40, 600, 3000];
const MAX_TOKENS: [u64; 4] = [1, 500, 3000, u64::MAX];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Wait(u64),
    Up(usize, bool),
    Turns(usize, Mood),
    Foreign(usize, u32),
    Probe(usize),
    Submit {
        id: u128,
        model: usize,
        endpoint: Endpoint,
        /// One of [`requests`].
        request: usize,
        deadline: u64,
    },
    Answer(usize),
    Write(usize),
    /// Cancels the nth submission, which may have ended before.
    Cancel {
        nth: usize,
        holds: u64,
    },
    LosePool(usize),
    RestorePools,
    Connect,
    Disconnect,
    /// Inputs of a job, a connection and a backend that the router does not know.
    Strays(u64),
    StopAccepting,
    EndJobs,
}

fn server(chance: &mut impl Rng) -> Server {
    let kinds = [BackendKind::Vllm, BackendKind::LlamaCpp, BackendKind::OpenAi];
    let slots = chance.random_range(1..5);
    let models = (0..chance.random_range(1..4)).map(|_| {
        let some: Endpoints =
            (0..chance.random_range(0..3)).filter_map(|_| Endpoint::ALL.choose(chance)).copied().collect();
        let price = chance.random_bool(0.5).then(|| chance.random_range(5..15));
        ModelReport {
            id: (*MODELS.choose(chance).unwrap()).into(),
            context_window: *[None, Some(1000), Some(2000)].choose(chance).unwrap(),
            endpoints: some.union(Endpoints::CHAT),
            price: price.map(|price| Price { input_per_1m: price, output_per_1m: price }),
        }
    });
    let models = models.collect();
    let max_concurrent = chance.random_bool(0.3).then(|| chance.random_range(1..6));
    Server {
        report: BackendReport {
            kind: *kinds.choose(chance).unwrap(),
            models,
            slots: chance.random_bool(0.5).then_some(slots),
            active_requests: None,
            cloud_models: 0,
        },
        // The operator has to know the slots of a server that does not report them.
        policy: BackendPolicy {
            local: chance.random(),
            max_concurrent: max_concurrent.or(Some(slots)),
            ..BackendPolicy::default()
        },
        slots,
        up: true,
        mood: Mood::Answers,
        foreign: 0,
        held: Vec::new(),
        left: None,
        known: Known::Exactly,
        reported: None,
    }
}

fn step(chance: &mut impl Rng) -> Step {
    let moods = [
        Mood::Answers,
        Mood::Answers,
        Mood::Answers,
        Mood::BreaksOff,
        Mood::Stalls,
        Mood::TakesNoConnection,
        Mood::Crashes,
        Mood::Answers503,
        Mood::Answers429,
        Mood::Answers400,
        Mood::LacksModel,
    ];
    let any = chance.random_range(0..1000);
    match chance.random_range(0..1000) {
        0..120 => Step::Wait(if chance.random_bool(0.7) { any as u64 / 3 } else { chance.random_range(0..20_000) }),
        120..170 => Step::Up(any, chance.random_bool(0.7)),
        170..240 => Step::Turns(any, *moods.choose(chance).unwrap()),
        240..270 => Step::Foreign(any, chance.random_range(0..5)),
        270..350 => Step::Probe(any),
        350..600 => Step::Submit {
            // So few ids that an id is used again while its job is running, and later.
            id: chance.random_range(0..64),
            model: any,
            endpoint: *Endpoint::ALL.choose(chance).unwrap(),
            request: chance.random_range(0..PROMPTS.len() * MAX_TOKENS.len()),
            deadline: *[1, 300, 3000, 60_000, 600_000].choose(chance).unwrap(),
        },
        600..770 => Step::Answer(any),
        770..920 => Step::Write(any),
        920..970 => Step::Cancel { nth: any, holds: chance.random_range(0..7000) },
        970..976 => Step::LosePool(any),
        976..984 => Step::RestorePools,
        984..989 => Step::Disconnect,
        989..996 => Step::Connect,
        996..999 => Step::Strays(any as u64),
        _ if chance.random_bool(0.3) => Step::StopAccepting,
        _ if chance.random_bool(0.3) => Step::EndJobs,
        _ => Step::Wait(0),
    }
}

/// A request for each length of a prompt and each limit, and then an empty one.
pub(super) fn requests() -> Vec<Request> {
    let text =
        |prompt: usize, max_tokens: u64| format!(r#"{{"prompt":"{}","max_tokens":{max_tokens}}}"#, "x".repeat(prompt));
    let all = PROMPTS.iter().flat_map(|prompt| MAX_TOKENS.iter().map(|limit| Request::new(&text(*prompt, *limit))));
    all.chain([Request::new("{}")]).collect()
}

impl World {
    fn nth(&mut self, n: usize) -> (BackendId, &mut Server) {
        let which = n % self.servers.len();
        let (id, server) = self.servers.iter_mut().nth(which).unwrap();
        (id.clone(), server)
    }
}

fn take(world: &mut World, step: &Step, requests: &[Request]) {
    let pick = |tickets: Vec<Ticket>, n: usize| (!tickets.is_empty()).then(|| tickets[n % tickets.len()]);
    match *step {
        Step::Wait(wait) => world.wait(ms(wait)),
        Step::Up(which, up) => world.nth(which).1.up = up,
        Step::Turns(which, mood) => world.nth(which).1.mood = mood,
        Step::Foreign(which, foreign) => {
            let (_, server) = world.nth(which);
            server.foreign = foreign.min(server.slots);
            if server.known == Known::Exactly {
                server.known = Known::Later;
            }
        }
        Step::Probe(which) => {
            let id = world.nth(which).0;
            world.probe(&id);
        }
        Step::Submit { id, model, endpoint, request, deadline } => {
            let request = requests[request].clone();
            let id = JobId::from(uuid::Uuid::from_u128(id));
            world.submit(id, MODELS[model % MODELS.len()], endpoint, request, ms(deadline));
        }
        Step::Answer(n) => {
            if let Some(ticket) = pick(world.running.keys().copied().collect(), n) {
                world.answer(ticket);
            }
        }
        Step::Write(n) => {
            let queued = world.running.keys().chain(world.ending.keys()).copied().collect();
            if let Some(ticket) = pick(queued, n) {
                world.write(ticket);
            }
        }
        Step::Cancel { nth, holds } => {
            if let Some(job) = world.submissions.get(nth % world.submissions.len().max(1)) {
                world.cancel(job.id, ms(holds));
            }
        }
        Step::LosePool(which) => {
            let id = world.nth(which).0;
            world.lose_pool(&id);
        }
        Step::RestorePools => world.restore_pools(),
        Step::Connect => {
            world.disconnect();
            world.connect();
        }
        Step::Disconnect => world.disconnect(),
        Step::Strays(n) => world.stray_inputs(n),
        Step::StopAccepting => world.stop(false),
        Step::EndJobs => world.stop(true),
    }
    world.check();
}

/// All faults end: running jobs end, lost backends return, every offer can be kept, and no state is left over.
fn recovers(world: &mut World, requests: &[Request]) {
    for server in world.servers.values_mut() {
        (server.up, server.mood, server.foreign) = (true, Mood::Answers, 0);
    }
    world.restore_pools();
    world.run_all();
    world.disconnect();
    world.connect();
    world.wait(ms(100_000));
    let ids: Vec<BackendId> = world.servers.keys().cloned().collect();
    ids.iter().for_each(|id| world.probe(id));
    world.wait(ms(3000));
    world.check();
    assert_eq!((world.router.ledger.in_flight(), world.running.len(), world.ending.len()), (0, 0, 0));
    let counted = world.router.budget.as_mut().map_or(0, |budget| budget.counted(world.now));
    assert_eq!(counted, 0, "BUDGET: tokens are counted that no job has used");
    if world.draining {
        return;
    }
    let catalog = Arc::clone(&world.router.catalog);
    let offers =
        catalog.models().map(|model| &model.offer).map(|offer| (offer.model_id.clone(), offer.endpoints.unwrap()));
    let offers: Vec<(ModelId, Endpoints)> = offers.collect();
    assert!(!offers.is_empty());
    let empty = requests.last().unwrap();
    for (model, endpoints) in offers {
        for endpoint in endpoints.iter() {
            let id = JobId::from(uuid::Uuid::from_u128(1000));
            world.submit(id, model.as_str(), endpoint, empty.clone(), ms(60_000));
            world.run_all();
            assert_eq!(world.submissions.last().unwrap().fate, Fate::Ended, "{model} at {endpoint}");
        }
    }
}

/// What happens in a sequence.
pub(crate) struct Sequence {
    pub(super) servers: Vec<Server>,
    pub(super) budget: Option<u64>,
    pub(super) steps: Vec<Step>,
}

impl Sequence {
    /// A sequence of so many inputs.
    pub(crate) fn of(chance: &mut impl Rng, inputs: usize) -> Self {
        let servers = (0..chance.random_range(1..5)).map(|_| server(chance)).collect();
        let budget = chance.random_bool(0.5).then_some(BUDGET);
        Self { servers, budget, steps: (0..inputs).map(|_| step(chance)).collect() }
    }

    /// Plays it, with all invariants checked, and lets the router recover.
    pub(crate) fn play(&self) {
        thread_local! {
            static REQUESTS: Vec<Request> = requests();
        }
        REQUESTS.with(|requests| {
            let mut world = World::new(self.servers.clone(), self.budget);
            self.steps.iter().for_each(|step| take(&mut world, step, requests));
            recovers(&mut world, requests);
        });
    }
}
