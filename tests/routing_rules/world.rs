//! The servers as they really are, and the router, which knows them from what they say.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use outpost::core::scheduling::breaker::{Breaker, Pass, State, Verdict};
use outpost::core::scheduling::capacity::Capacity;
use outpost::core::scheduling::catalog::{BackendPolicy, Catalog, Seen, Terms};
use outpost::core::scheduling::ledger::Ledger;
use outpost::core::scheduling::selection::{Demand, Standing, Unrouted, choose};
use outpost::messages::discovery::BackendReport;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, Generation, JobId, ModelId};
use outpost::messages::jobs::Ticket;
use outpost::messages::prices::{Price, PriceList};
use proptest::sample::Index;

use crate::can_be_served;

pub const AGENT: u32 = 12;
const TRIES: usize = 3;
pub const MODELS: [&str; 3] = ["m0", "m1", "m2"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How a server that is up treats a job when it comes to answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Answers,
    /// Not yet.
    Stalls,
    Answers5xx,
    Answers4xx,
}

/// A server as it really is.
#[derive(Clone, Debug)]
pub struct Server {
    pub report: BackendReport,
    pub policy: BackendPolicy,
    pub slots: u32,
    pub up: bool,
    pub mood: Mood,
    pub foreign: u32,
    /// Until when cancelled jobs hold a slot.
    pub held: Vec<Instant>,
    /// When a job left it last.
    pub left: Option<Instant>,
    /// How far the router can know its load.
    pub known: Known,
}

/// How far the router can know a server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// As it is.
    Exactly,
    /// Not before the next report that leaves no doubt.
    Later,
    /// It worked for longer on a cancelled job than is waited for, or works on one and does not tell.
    Never,
}

/// What the ledger keeps of a job.
pub struct Work {
    model: ModelId,
    endpoint: Endpoint,
    context: u64,
    pass: Pass,
    tried: Vec<BackendId>,
}

#[derive(Clone, Debug)]
pub enum Step {
    Wait(u64),
    Up(Index, bool),
    Turns(Index, Mood),
    Foreign(Index, u32),
    Look(Index),
    Submit { model: Index, endpoint: Index, context: u64 },
    Goes(Index),
    Cancel { job: Index, holds: u64 },
    ConnectionLost,
}

/// The servers and the router, side by side.
pub struct World {
    now: Instant,
    pub servers: BTreeMap<BackendId, Server>,
    seen: BTreeMap<BackendId, Seen>,
    terms: Terms,
    pub catalog: Catalog,
    pub ledger: Ledger<Work>,
    capacities: HashMap<BackendId, Capacity>,
    breakers: HashMap<BackendId, Breaker>,
    asked: HashMap<BackendId, Instant>,
    generation: u64,
    /// How often each job that was admitted has ended.
    pub ends: Vec<u32>,
}

impl World {
    pub fn new(servers: Vec<Server>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
        let now = Instant::now();
        let prices = PriceList { default: Price { input_per_1m: 9, output_per_1m: 9 }, by_model: BTreeMap::new() };
        let servers = servers.into_iter().enumerate().map(|(n, server)| (format!("b{n}").into(), server)).collect();
        Self {
            now,
            servers,
            seen: BTreeMap::new(),
            terms: Terms { prices, max_concurrent: AGENT },
            catalog: Catalog::default(),
            ledger: Ledger::new(AGENT),
            capacities: HashMap::new(),
            breakers: HashMap::new(),
            asked: HashMap::new(),
            generation: 0,
            ends: Vec::new(),
        }
    }

    fn ours(&self, id: &BackendId) -> u32 {
        u32::try_from(self.ledger.on_backend(id)).unwrap()
    }

    fn busy(&self, id: &BackendId) -> u32 {
        let server = &self.servers[id];
        let held = server.held.iter().filter(|until| **until > self.now).count();
        self.ours(id) + server.foreign + u32::try_from(held).unwrap()
    }

    fn standing(&self, id: &BackendId) -> Option<Standing> {
        let (capacity, breaker, ours) = (self.capacities.get(id)?, self.breakers.get(id)?, self.ours(id));
        let (free, load) = (capacity.free(ours, self.now), capacity.load(ours, self.now));
        Some(Standing { admits: breaker.admits(self.now), free, load, jobs: ours })
    }

    /// A look of discovery, which also tells of the load where the server does.
    pub fn look(&mut self, id: &BackendId) {
        let Server { up, report, policy, slots, .. } = self.servers[id].clone();
        if up {
            self.seen.insert(id.clone(), Seen { report, policy });
        } else {
            self.seen.remove(id);
        }
        self.catalog = Catalog::build(&self.seen, &self.terms);
        for (id, route) in self.catalog.backends() {
            if !self.capacities.contains_key(id) {
                self.capacities.insert(id.clone(), Capacity::new(route.limit, route.slots));
                // What it told while it was not in the catalog nobody remembers.
                let server = self.servers.get_mut(id).unwrap();
                if server.report.slots.is_some() && server.known == Known::Exactly {
                    server.known = Known::Later;
                }
            }
            self.capacities.get_mut(id).unwrap().resize(route.limit, route.slots);
            self.breakers.entry(id.clone()).or_insert_with(|| Breaker::new(0));
        }
        if up && self.servers[id].report.slots == Some(slots) {
            self.tell(id, ms(2250));
        }
    }

    /// A report of the load. Of jobs that left less than `doubt` ago nobody can tell whether it counts them, and what waits
    /// at the server it does not count.
    fn tell(&mut self, id: &BackendId, doubt: Duration) {
        let (busy, ours, server) = (self.busy(id), self.ours(id), self.servers.get_mut(id).unwrap());
        let Some(capacity) = self.capacities.get_mut(id) else { return };
        capacity.on_report(busy.min(server.slots), ours, self.now);
        let exact = busy <= server.slots && server.left.is_none_or(|left| self.now - left > doubt);
        server.known = match server.known {
            Known::Never => Known::Never,
            _ if exact => Known::Exactly,
            _ => Known::Later,
        };
    }

    /// Lets time pass, and asks servers for their load when the rules say so.
    pub fn wait(&mut self, wait: u64) {
        let until = self.now + ms(wait);
        loop {
            let due =
                self.capacities.iter().filter_map(|(id, capacity)| Some((capacity.next_poll(self.now)?, id.clone())));
            let Some((at, id)) = due.min().filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            if let Some(last) = self.asked.insert(id.clone(), self.now) {
                assert!(self.now - last >= Duration::from_secs(1), "polled more than once a second");
            }
            self.capacities.get_mut(&id).unwrap().on_ask(self.now);
            if self.servers[&id].up {
                self.tell(&id, ms(250));
            }
        }
        self.now = until;
    }

    pub fn submit(&mut self, model: &ModelId, endpoint: Endpoint, context: u64) -> Result<Ticket, Unrouted> {
        let routes = self.catalog.model(model).map(|model| model.routes.clone()).unwrap_or_default();
        let demand = Demand { endpoint, context, sticky: None, tried: &[] };
        let choice = choose(&routes, &demand, |id| self.standing(id))?;
        if self.ledger.in_flight() >= AGENT as usize {
            return Err(Unrouted::AllFull);
        }
        let (id, limit) = (choice.route.backend.clone(), choice.route.limit);
        let pass = self.breakers.get_mut(&id).unwrap().begin(self.now).expect("a breaker that admits gives a pass");
        let job = JobId::from(uuid::Uuid::from_u128(self.ends.len() as u128));
        let work = Work { model: model.clone(), endpoint, context, pass, tried: Vec::new() };
        let entry = self.ledger.admit(job, Generation(self.generation), &id, limit, |_| work);
        let ticket = entry.map(|entry| entry.ticket).expect("what was chosen has room in the ledger");
        self.ends.push(0);
        self.placed(&id);
        Ok(ticket)
    }

    /// What must hold of a backend that has just been given a job.
    fn placed(&mut self, id: &BackendId) {
        let server = &self.servers[id];
        let limit = server.policy.max_concurrent.unwrap_or(server.slots);
        assert!(self.ours(id) <= limit.min(AGENT), "more jobs than the backend may have");
        if server.known == Known::Exactly {
            assert!(self.busy(id) <= server.slots.max(limit), "more work than the backend was said to have room for");
        }
    }

    /// The server of a running job does what its mood is.
    pub fn goes(&mut self, ticket: Ticket) {
        let Some(id) = self.ledger.iter().find(|entry| entry.ticket == ticket).map(|entry| entry.backend.clone())
        else {
            return;
        };
        let Server { up, mood, .. } = self.servers[&id];
        let verdict = match mood {
            _ if !up => Verdict::Fault,
            Mood::Stalls => return,
            Mood::Answers => Verdict::Success,
            Mood::Answers5xx => Verdict::Fault,
            Mood::Answers4xx => Verdict::Neutral,
        };
        let work = self.ledger.grip(ticket).unwrap();
        let pass = work.pass;
        work.tried.push(id.clone());
        let (model, endpoint, context, tried) = (work.model.clone(), work.endpoint, work.context, work.tried.clone());
        self.breakers.get_mut(&id).unwrap().report(pass, verdict, self.now);
        self.capacities.get_mut(&id).unwrap().on_end(self.now);
        self.servers.get_mut(&id).unwrap().left = Some(self.now);
        if verdict == Verdict::Fault && tried.len() < TRIES {
            let routes = self.catalog.model(&model).map(|model| model.routes.clone()).unwrap_or_default();
            let demand = Demand { endpoint, context, sticky: None, tried: &tried };
            if let Ok(choice) = choose(&routes, &demand, |id| self.standing(id)) {
                let next = choice.route.backend.clone();
                assert!(!tried.contains(&next));
                assert_eq!(self.ledger.move_to(ticket, &next, choice.route.limit), Ok(()));
                let pass = self.breakers.get_mut(&next).unwrap().begin(self.now);
                self.ledger.grip(ticket).unwrap().pass = pass.expect("a breaker that admits gives a pass");
                return self.placed(&next);
            }
        }
        self.ended(ticket);
    }

    fn ended(&mut self, ticket: Ticket) {
        let entry = self.ledger.end(ticket).expect("a job that runs is in the ledger");
        self.ends[usize::try_from(entry.job.uuid().as_u128()).unwrap()] += 1;
    }

    fn cancel(&mut self, ticket: Ticket, holds: u64) {
        let entry = self.ledger.iter().find(|entry| entry.ticket == ticket).unwrap();
        let (job, generation, id, pass) = (entry.job, entry.generation, entry.backend.clone(), entry.grip.pass);
        assert!(self.ledger.cancel(job, generation).is_some());
        self.ends[usize::try_from(job.uuid().as_u128()).unwrap()] += 1;
        // Some cancels are heard of by nobody: a breaker must live with that.
        if holds.is_multiple_of(2) {
            self.breakers.get_mut(&id).unwrap().report(pass, Verdict::Neutral, self.now);
        }
        self.capacities.get_mut(&id).unwrap().on_cancel(self.now);
        let server = self.servers.get_mut(&id).unwrap();
        if holds >= 5000 || server.report.slots.is_none() {
            server.known = Known::Never;
        }
        (server.left, _) = (Some(self.now), server.held.push(self.now + ms(holds)));
    }

    pub fn jobs(&self) -> Vec<Ticket> {
        self.ledger.iter().map(|entry| entry.ticket).collect()
    }

    pub fn take(&mut self, step: Step) {
        let ids: Vec<BackendId> = self.servers.keys().cloned().collect();
        let jobs = self.jobs();
        match step {
            Step::Wait(wait) => self.wait(wait),
            Step::Up(which, up) => self.servers.get_mut(which.get(&ids)).unwrap().up = up,
            Step::Turns(which, mood) => self.servers.get_mut(which.get(&ids)).unwrap().mood = mood,
            Step::Foreign(which, foreign) => {
                let server = self.servers.get_mut(which.get(&ids)).unwrap();
                server.foreign = foreign.min(server.slots);
                if server.known == Known::Exactly {
                    server.known = Known::Later;
                }
            }
            Step::Look(which) => self.look(which.get(&ids)),
            Step::Submit { model, endpoint, context } => {
                let model = (*model.get(&MODELS)).into();
                let _ = self.submit(&model, *endpoint.get(&Endpoint::ALL), context);
            }
            Step::Goes(job) if !jobs.is_empty() => self.goes(*job.get(&jobs)),
            Step::Cancel { job, holds } if !jobs.is_empty() => self.cancel(*job.get(&jobs), holds),
            Step::ConnectionLost => {
                for ticket in jobs {
                    self.cancel(ticket, 0);
                }
                self.generation += 1;
            }
            Step::Goes(_) | Step::Cancel { .. } => {}
        }
    }

    /// What must hold at any time.
    pub fn check(&self) {
        assert_eq!(self.ledger.check(), Ok(()));
        for model in self.catalog.models() {
            for route in &model.routes {
                let report = &self.seen[&route.backend].report;
                assert!(report.models.iter().any(|seen| seen.id == model.offer.model_id), "not seen there");
            }
            can_be_served(
                model,
                model.offer.max_concurrent,
                model.offer.context_window,
                model.offer.endpoints.unwrap(),
                |_| u32::MAX,
            );
            let usable = |id: &BackendId| match self.breakers[id].state(self.now) {
                State::Closed => self.capacities[id].usable(self.now),
                State::HalfOpen => 1,
                State::Open { .. } | State::Trying => 0,
            };
            if let Some(offer) = model.offer_now(usable) {
                can_be_served(model, offer.max_concurrent, offer.context_window, offer.endpoints.unwrap(), usable);
            } else {
                assert!(model.routes.iter().all(|route| usable(&route.backend) == 0));
            }
        }
    }
}
