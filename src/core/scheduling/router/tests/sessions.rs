//! Random sequences in which a link is cut at any point: the router and the responses of its jobs at one end, a coordinator
//! made of the same rules at the other. Whatever is cut, a client gets each byte once and in order, and one end of its job.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rand::seq::IteratorRandom;
use rand::{Rng, RngExt};

use super::super::*;
use crate::core::scheduling::catalog::{BackendPolicy, Seen, Terms};
use crate::core::scheduling::estimate::Outline;
use crate::core::session::delivery::{Delivery, Receipt};
use crate::core::session::handshake::SessionGrant;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ModelReport};
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::CoordinatorId;
use crate::messages::prices::{Price, PriceList};
use crate::messages::wire::{Extensions, ResumeRequest, Taken, WantedJob};

const SLOTS: u32 = 2;
const JOBS: u128 = 6;
const WINDOW: Duration = Duration::from_mins(1);

/// The agent's part of a job: how far its response has come, and which connection gets its frames.
struct Response {
    delivery: Delivery,
    connection: Generation,
}

impl Work for Response {
    fn outline(&self) -> Option<Outline<'_>> {
        None
    }

    fn progress(&self) -> Progress {
        Progress::Begun
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn acknowledge(&mut self, offset: u64) {
        self.delivery.acknowledge(offset);
    }
}

/// A frame on its way.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Job(JobId),
    Cancel(JobId),
    Ack(JobId, Taken),
    Chunk(JobId, u64, u64),
    Terminal(JobId),
    Refused(JobId),
}

/// What the client of a job has got.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    receipt: Receipt,
    /// It waits for more.
    waits: bool,
}

struct World {
    now: Instant,
    router: Router<Response>,
    wake_at: Option<Instant>,
    generation: Generation,
    /// Whether there is a connection, and the frames on it.
    is_up: bool,
    down: VecDeque<Frame>,
    up: VecDeque<Frame>,
    /// Jobs at the backend.
    working: HashSet<Ticket>,
    /// Jobs that the coordinator has and that have not ended there.
    clients: BTreeMap<JobId, Client>,
    /// Ids that are not used again: they have ended, were cancelled, or were lost with their session.
    over: HashSet<JobId>,
    /// Those whose end was taken over.
    ended: HashSet<JobId>,
}

impl World {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
        let now = Instant::now();
        let limits = Limits { max_concurrent_total: SLOTS, max_tokens_per_minute: None, max_message_bytes: None };
        let mut world = Self {
            now,
            router: Router::new(RouterSettings { limits, settle_at: now }, RandomState::new()),
            wake_at: None,
            generation: Generation::numbered(0),
            is_up: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            working: HashSet::new(),
            clients: BTreeMap::new(),
            over: HashSet::new(),
            ended: HashSet::new(),
        };
        let model = ModelReport { id: "m".into(), context_window: None, endpoints: Endpoints::CHAT, price: None };
        let (kind, models, slots) = (BackendKind::Vllm, vec![model], Some(SLOTS));
        let report = BackendReport { kind, models, slots, active_requests: None, cloud_models: 0 };
        let policy = BackendPolicy { local: true, ..BackendPolicy::default() };
        let prices = PriceList { default: Price { input_per_1m: 9, output_per_1m: 9 }, by_model: BTreeMap::new() };
        let seen = BTreeMap::from([("box".into(), Seen { report, policy })]);
        let catalog = Catalog::build(&seen, &Terms { prices, max_concurrent: SLOTS });
        world.router.routes_changed(now, Arc::new(catalog), seen.keys().cloned().collect(), true);
        world.drive();
        world.connect(true);
        world
    }

    /// Connects, with the handshake. `keeps`: the coordinator goes on with the session if it is asked to.
    fn connect(&mut self, keeps: bool) {
        self.generation.number += 1;
        (self.is_up, self.down, self.up) = (true, VecDeque::new(), VecDeque::new());
        let asked = self.router.offer_session(self.now, self.generation);
        let resumed = asked.filter(|_| keeps).map(|ResumeRequest { jobs, .. }| {
            let listed: HashSet<JobId> = jobs.iter().map(|job| job.job_id).collect();
            // What is not listed was never received.
            self.clients.retain(|id, _| listed.contains(id));
            let wanted = self.clients.iter().filter(|(_, client)| client.waits);
            wanted.map(|(id, client)| WantedJob { job_id: *id, offset: client.receipt.received() }).collect::<Vec<_>>()
        });
        if resumed.is_none() {
            self.over.extend(self.clients.keys());
            self.clients.clear();
        }
        let grant = SessionGrant { name: "s".parse().unwrap(), window: WINDOW, resumed };
        self.router.connection_up(self.now, self.generation, Extensions::all(), Some(grant));
        self.drive();
        for (id, client) in &self.clients {
            assert!(
                self.router.ledger.contains(*id, CoordinatorId::FIRST) || self.router.kept() > 0,
                "{id} is wanted and gone: {client:?}"
            );
        }
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.is_up) {
            (self.down, self.up) = (VecDeque::new(), VecDeque::new());
            self.router.connection_down(self.now, self.generation);
            self.drive();
        }
    }

    fn drive(&mut self) {
        while let Some(effect) = self.router.next_effect() {
            match effect {
                Effect::Dispatch { ticket, .. } => assert!(self.working.insert(ticket), "a job runs twice"),
                Effect::Fail { ticket, .. } => {
                    self.working.remove(&ticket);
                    self.end(ticket);
                }
                Effect::Attach { ticket, generation, offset } => {
                    let work = self.router.work(ticket).expect("a job that goes on");
                    work.connection = generation;
                    assert_eq!(work.delivery.resume(offset), Ok(()));
                }
                Effect::Cancel { .. } | Effect::Release { .. } => {
                    self.working.retain(|ticket| self.router.job(*ticket).is_some());
                }
                Effect::WakeAt(at) => self.wake_at = Some(at),
                Effect::Close { .. } => panic!("there is one connection at a time"),
                _ => {}
            }
        }
        assert_eq!(self.router.check(), Ok(()));
        assert!(self.router.ledger.in_flight() <= SLOTS as usize);
    }

    /// The backend has ended a job, or the router ends it.
    fn end(&mut self, ticket: Ticket) {
        self.working.remove(&ticket);
        if let Some(work) = self.router.work(ticket) {
            work.delivery.end();
        }
        let outcome = Outcome::Done { tokens: Tokens::default() };
        self.router.ended(self.now, UNIX_EPOCH, ticket, outcome, Duration::ZERO);
        self.drive();
    }

    /// The agent writes the next frame of a job.
    fn write(&mut self, ticket: Ticket, most: u64) {
        let job = self.job_of(ticket);
        let (is_up, current) = (self.is_up, self.generation);
        let Some(work) = self.router.work(ticket).filter(|work| is_up && work.connection == current) else { return };
        let (offset, bytes) = (work.delivery.written(), work.delivery.unwritten().min(most));
        if bytes > 0 {
            work.delivery.wrote(bytes);
            self.up.push_back(Frame::Chunk(job, offset, bytes));
        } else if work.delivery.terminal_is_due() {
            work.delivery.wrote_terminal();
            self.up.push_back(Frame::Terminal(job));
        }
    }

    fn job_of(&self, ticket: Ticket) -> JobId {
        let kept = self.router.sessions.values().find_map(|session| session.kept.get(&ticket)).map(|(job, _)| *job);
        self.router.job(ticket).or(kept).expect("a job of the router")
    }

    /// The tickets of all jobs that the router has.
    fn tickets(&self) -> Vec<Ticket> {
        let kept = self.router.sessions.values().flat_map(|session| session.kept.keys());
        self.router.ledger.iter().map(|entry| entry.ticket).chain(kept.copied()).collect()
    }

    /// The agent takes the next frame.
    fn agent_reads(&mut self) {
        match self.down.pop_front() {
            Some(Frame::Job(id)) => {
                let new = NewJob {
                    id,
                    model: "m".into(),
                    endpoint: Endpoint::ChatCompletions,
                    received: self.now,
                    deadline: self.now + Duration::from_mins(5),
                };
                let work = Response { delivery: Delivery::new(true), connection: self.generation };
                match self.router.submit(self.now, self.generation, new, work) {
                    Submitted::Refused(_) => self.up.push_back(Frame::Refused(id)),
                    Submitted::Accepted => assert!(!self.ended.contains(&id), "a job runs twice"),
                    Submitted::AlreadyRuns | Submitted::AlreadyEnded | Submitted::Stale => {}
                }
            }
            Some(Frame::Cancel(id)) => self.router.cancel(self.now, self.generation, id),
            Some(Frame::Ack(id, taken)) => self.router.acknowledged(self.generation, id, taken),
            _ => {}
        }
        self.drive();
    }

    /// The coordinator takes the next frame.
    fn coordinator_reads(&mut self) {
        match self.up.pop_front() {
            Some(Frame::Chunk(id, offset, bytes)) => {
                if let Some(client) = self.clients.get_mut(&id) {
                    let before = client.receipt.receive(offset, bytes).expect("a response without a gap");
                    client.receipt.take(bytes - before);
                }
            }
            Some(Frame::Terminal(id)) => {
                if self.clients.remove(&id).is_some() {
                    assert!(self.ended.insert(id), "a client gets two ends");
                }
                self.over.insert(id);
                self.down.push_back(Frame::Ack(id, Taken::Terminal));
            }
            Some(Frame::Refused(id)) => drop(self.clients.remove(&id)),
            _ => {}
        }
    }

    fn wait(&mut self, wait: Duration) {
        let until = self.now + wait;
        while let Some(at) = self.wake_at.filter(|at| *at <= until) {
            (self.now, self.wake_at) = (self.now.max(at), None);
            self.router.tick(self.now);
            self.drive();
        }
        self.now = until;
    }

    fn step(&mut self, chance: &mut impl Rng) {
        let (tickets, amount) = (self.tickets(), chance.random_range(0..40));
        let any = tickets.iter().copied().choose(chance);
        match chance.random_range(0..100) {
            0..15 => {
                let id = JobId::from(uuid::Uuid::from_u128(chance.random_range(0..JOBS)));
                if self.is_up && !self.clients.contains_key(&id) && !self.over.contains(&id) {
                    self.clients.insert(id, Client { waits: true, ..Client::default() });
                    self.down.push_back(Frame::Job(id));
                }
            }
            15..30 => {
                if let Some(ticket) = any.filter(|ticket| self.working.contains(ticket)) {
                    self.router.work(ticket).expect("a job that runs").delivery.produce(amount);
                }
            }
            30..36 => {
                any.filter(|ticket| self.working.contains(ticket)).into_iter().for_each(|ticket| self.end(ticket))
            }
            36..55 => any.into_iter().for_each(|ticket| self.write(ticket, amount)),
            55..68 => self.agent_reads(),
            68..81 => self.coordinator_reads(),
            81..86 => {
                if let Some((id, client)) = self.clients.iter_mut().choose(chance)
                    && let Some(offset) = client.receipt.acknowledge()
                    && self.is_up
                {
                    self.down.push_back(Frame::Ack(*id, Taken::Bytes(offset)));
                }
            }
            86..88 => {
                if let Some(id) = self.clients.keys().copied().choose(chance) {
                    self.clients.remove(&id);
                    self.over.insert(id);
                    if self.is_up {
                        self.down.push_back(Frame::Cancel(id));
                    }
                }
            }
            88..90 => {
                // Nonsense.
                let id = JobId::from(uuid::Uuid::from_u128(chance.random_range(0..2 * JOBS)));
                self.router.acknowledged(self.generation, id, Taken::Bytes(u64::MAX));
                self.drive();
            }
            90..94 => self.cut(),
            94..98 if !self.is_up => self.connect(chance.random_bool(0.9)),
            _ => self.wait(Duration::from_millis(chance.random_range(0..20_000))),
        }
    }

    /// Lets everything that was begun come to its end.
    fn finish(&mut self) {
        if !self.is_up {
            self.connect(true);
        }
        for _ in 0..10_000 {
            for ticket in self.tickets() {
                if self.working.contains(&ticket) {
                    self.end(ticket);
                }
                if self.tickets().contains(&ticket) {
                    self.write(ticket, u64::MAX);
                }
            }
            while !self.up.is_empty() || !self.down.is_empty() {
                self.coordinator_reads();
                self.agent_reads();
            }
            if self.tickets().is_empty() && self.clients.is_empty() {
                return;
            }
        }
        panic!("something is kept for ever: {:?}, {} kept", self.clients, self.router.kept());
    }
}

/// Plays a sequence of so many inputs, and lets everything come to its end.
pub(crate) fn play(chance: &mut impl Rng, inputs: usize) {
    let mut world = World::new();
    (0..inputs).for_each(|_| world.step(chance));
    world.finish();
    assert_eq!((world.router.ledger.in_flight(), world.router.kept(), world.working.len()), (0, 0, 0));
    assert!(world.router.sessions.len() <= 1);
}

#[test]
#[expect(clippy::print_stdout, reason = "shown if it fails")]
fn whatever_is_cut_each_client_gets_every_byte_once_and_one_end() {
    use rand::SeedableRng;

    for seed in 0..2_000 {
        println!("seed {seed}");
        play(&mut rand::rngs::Xoshiro256PlusPlus::seed_from_u64(seed), 200);
    }
}
