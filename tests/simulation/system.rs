//! One system: it is set up, works its jobs while things go wrong, and is checked and taken down.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use outpost::testkit::{
    AgentBuilder, CoordinatorConfig, Event, Harness, Identity, MemoryCoordinator, Phase, RealCoordinator, RunningAgent,
};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::backend::{Journal, SimBackend};
use crate::network::{Balancer, Dials, LinkState, Uplink};
use crate::{client, faults};

const AGENTS: usize = 3;
const SLOTS: u32 = 4;
const CLIENTS: usize = 20;

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) whole: u64,
    pub(crate) left: u64,
    pub(crate) failed: u64,
    pub(crate) retries: u64,
    /// Those of them after the coordinator had tried three agents in vain.
    pub(crate) given_up: u64,
    pub(crate) cuts: u64,
    pub(crate) silences: u64,
    pub(crate) handovers: u64,
    pub(crate) restarts: u64,
    pub(crate) kills: u64,
    /// In virtual time.
    time: Duration,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { whole, left, failed, retries, given_up, cuts, silences, handovers, restarts, kills, time } = self;
        write!(
            f,
            "whole={whole} left={left} failed={failed} retries={retries} given_up={given_up} cuts={cuts} silences={silences} "
        )?;
        write!(f, "handovers={handovers} restarts={restarts} kills={kills} seconds={}", time.as_secs_f64())
    }
}

pub(crate) struct World {
    pub(crate) balancer: Rc<Balancer>,
    pub(crate) uplinks: Vec<Rc<Uplink>>,
    pub(crate) backends: Vec<SimBackend>,
    agents: RefCell<Vec<Option<RunningAgent>>>,
    identities: Vec<Identity>,
    journal: Arc<Mutex<Journal>>,
    totals: RefCell<Totals>,
    last_kill: Cell<Option<Instant>>,
    /// Connections may be lost until then.
    trouble_until: Cell<Option<Instant>>,
    /// Restarts that are not complete.
    changing: Cell<usize>,
    is_over: Cell<bool>,
    begin: Instant,
    notes: RefCell<Vec<(Instant, String)>>,
}

fn config() -> CoordinatorConfig {
    CoordinatorConfig {
        stop_grace: Duration::from_secs(250),
        job_timeout: Duration::from_secs(240),
        // Longer than an agent may take to notice that its connection is gone, and to dial again during an outage.
        resume_window: Duration::from_secs(200),
        ..RealCoordinator::config()
    }
}

/// Runs a seed with so many jobs.
pub(crate) async fn run(seed: u64, jobs: u64) -> Totals {
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut fork = || Xoshiro256PlusPlus::seed_from_u64(chance.random());
    let world = World::start(fork()).await;
    let faults = actix_rt::spawn(faults::happen(Rc::clone(&world), fork(), seed.is_multiple_of(3)));
    let orders: VecDeque<_> = (0..jobs).map(|job| (job, fork())).collect();
    let orders = RefCell::new(orders);
    let client = async || {
        while let Some((job, chance)) = { orders.borrow_mut().pop_front() } {
            client::work(&world, job, chance).await;
        }
    };
    join_all((0..CLIENTS).map(|_| client())).await;
    world.is_over.set(true);
    faults.await.expect("the faults end");
    world.finish().await;
    let time = world.begin.elapsed();
    Totals { time, ..world.totals.borrow().clone() }
}

impl World {
    pub(crate) async fn start(chance: Xoshiro256PlusPlus) -> Rc<Self> {
        tokio::time::pause();
        let coordinators =
            [Some(MemoryCoordinator::start(config()).await), Some(MemoryCoordinator::start(config()).await)];
        let (coordinators, is_ready, chance) =
            (RefCell::new(coordinators), RefCell::new([true; 2]), RefCell::new(chance));
        let balancer = Rc::new(Balancer { coordinators, is_ready, chance });
        let journal = Arc::default();
        let backend = |number| SimBackend::new(format!("b{number}"), SLOTS, &journal);
        let world = Rc::new(Self {
            uplinks: (0..AGENTS).map(|_| Uplink::new(&balancer)).collect(),
            balancer,
            backends: (0..2 * AGENTS).map(backend).collect(),
            agents: RefCell::default(),
            identities: (0..AGENTS).map(|_| Identity::ephemeral().expect("a key")).collect(),
            journal,
            totals: RefCell::default(),
            last_kill: Cell::default(),
            trouble_until: Cell::default(),
            changing: Cell::default(),
            is_over: Cell::default(),
            begin: Instant::now(),
            notes: RefCell::default(),
        });
        let agents = (0..AGENTS).map(|agent| Some(world.start_agent(agent))).collect();
        world.agents.replace(agents);
        world
    }

    fn start_agent(&self, agent: usize) -> RunningAgent {
        let of_it =
            |builder: AgentBuilder, number: usize| builder.source(Box::new(self.backends[2 * agent + number].clone()));
        let builder = (0..2).fold(Harness::builder(), of_it).identity(self.identities[agent].clone());
        let builder = builder.settings(|settings| {
            settings.shutdown_grace = Duration::from_secs(110);
            settings.discovery_interval = Duration::from_secs(5);
        });
        builder.launch(vec![Rc::new(Dials(Rc::clone(&self.uplinks[agent])))])
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("no panic under the lock")
    }

    pub(crate) fn count(&self, what: impl FnOnce(&mut Totals)) {
        what(&mut self.totals.borrow_mut());
    }

    pub(crate) fn note(&self, what: String) {
        self.notes.borrow_mut().push((Instant::now(), what));
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    pub(crate) fn was_killed_since(&self, begin: Instant) -> bool {
        self.last_kill.get().is_some_and(|at| at >= begin)
    }

    pub(crate) fn was_troubled_since(&self, begin: Instant) -> bool {
        self.trouble_until.get().is_some_and(|until| until >= begin)
    }

    /// A connection may be lost within such a time.
    pub(crate) fn note_trouble(&self, within: Duration) {
        self.trouble_until.set(self.trouble_until.get().max(Some(Instant::now() + within)));
    }

    /// Whether all agents have a connection that nothing is wrong with.
    pub(crate) fn is_calm(&self) -> bool {
        let is_connected = |agent: &Option<RunningAgent>| {
            agent.as_ref().is_some_and(|agent| agent.snapshot().phase == Phase::Connected)
        };
        self.changing.get() == 0
            && !self.was_troubled_since(Instant::now())
            && self.agents.borrow().iter().all(is_connected)
    }

    fn note_kill(&self) {
        self.count(|totals| totals.kills += 1);
        self.excuse();
    }

    /// The jobs that run now may be lost.
    pub(crate) fn excuse(&self) {
        self.last_kill.set(Some(Instant::now()));
    }

    /// Whether a coordinator is stopping.
    pub(crate) fn is_handing_over(&self) -> bool {
        let (coordinators, is_ready) = (self.balancer.coordinators.borrow(), self.balancer.is_ready.borrow());
        coordinators.iter().zip(is_ready.iter()).any(|(coordinator, ready)| coordinator.is_some() && !ready)
    }

    /// Restarts a coordinator as at SIGTERM, if the other one is there. While a connection is broken, jobs are lost with it.
    pub(crate) fn hand_over(self: &Rc<Self>, number: usize, away: Duration) {
        let coordinator = self.balancer.coordinators.borrow()[number].clone();
        let others_ready = self.balancer.is_ready.borrow()[1 - number];
        let Some(coordinator) = coordinator.filter(|_| others_ready && !self.is_handing_over()) else { return };
        self.balancer.is_ready.borrow_mut()[number] = false;
        if !self.is_calm() {
            self.excuse();
        }
        self.note(format!("coordinator {number} stops"));
        self.count(|totals| totals.handovers += 1);
        self.restart_coordinator(number, away, async move { coordinator.stop().await });
    }

    /// Restarts a coordinator as at SIGKILL.
    pub(crate) fn kill_coordinator(self: &Rc<Self>, number: usize, away: Duration) {
        if !self.balancer.is_ready.borrow()[number] {
            return;
        }
        let Some(coordinator) = self.balancer.coordinators.borrow_mut()[number].take() else { return };
        self.note_kill();
        coordinator.kill();
        self.restart_coordinator(number, away, std::future::ready(()));
    }

    fn restart_coordinator(self: &Rc<Self>, number: usize, away: Duration, end: impl Future<Output = ()> + 'static) {
        let world = Rc::clone(self);
        world.changing.set(world.changing.get() + 1);
        actix_rt::spawn(async move {
            end.await;
            world.note(format!("coordinator {number} has ended"));
            world.balancer.coordinators.borrow_mut()[number] = None;
            sleep(away).await;
            let next = MemoryCoordinator::start(config()).await;
            world.balancer.coordinators.borrow_mut()[number] = Some(next);
            world.balancer.is_ready.borrow_mut()[number] = true;
            world.changing.set(world.changing.get() - 1);
        });
    }

    /// Restarts an agent. `at_once`: its jobs are ended.
    pub(crate) fn restart_agent(self: &Rc<Self>, number: usize, at_once: bool) {
        let Some(mut agent) = self.agents.borrow_mut()[number].take() else { return };
        let world = Rc::clone(self);
        world.note(format!("agent {number} restarts, at once {at_once}"));
        world.changing.set(world.changing.get() + 1);
        world.count(|totals| totals.restarts += 1);
        actix_rt::spawn(async move {
            agent.drain();
            if at_once {
                world.note_kill();
                agent.drain();
            }
            let begin = Instant::now();
            agent.exit().await;
            if begin.elapsed() >= Duration::from_secs(110) {
                // It ended jobs.
                world.note_kill();
            }
            agent.stop().await;
            let agent = world.start_agent(number);
            world.agents.borrow_mut()[number] = Some(agent);
            world.changing.set(world.changing.get() - 1);
        });
    }

    /// What went wrong, and what the agents logged but for the usual course of jobs, for a failure.
    pub(crate) fn history(&self) -> String {
        let mut lines = self.notes.borrow().clone();
        let agents = self.agents.borrow();
        for (number, agent) in agents.iter().enumerate() {
            for logged in agent.iter().flat_map(RunningAgent::events) {
                let is_usual = match &logged.event {
                    Event::JobAccepted(_) | Event::JobStarted(_) => true,
                    Event::JobEnded(ended) => ended.cause.is_none(),
                    _ => false,
                };
                if !is_usual {
                    lines.push((logged.at, format!("agent {number}: {:?}", logged.event)));
                }
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        let last = &lines[lines.len().saturating_sub(100)..];
        last.iter().map(|(at, what)| format!("{:.3} s: {what}\n", (*at - self.begin).as_secs_f64())).collect()
    }

    /// Waits until nothing is left to do, and takes everything down.
    pub(crate) async fn finish(&self) {
        for uplink in &self.uplinks {
            uplink.out_until.set(None);
            uplink.delay.set(Duration::ZERO);
        }
        let end = Instant::now() + Duration::from_secs(1200);
        while let Some(left) = self.left() {
            assert!(Instant::now() < end, "something is left: {left}");
            sleep(Duration::from_secs(1)).await;
        }
        let agents: Vec<_> = self.agents.borrow_mut().drain(..).flatten().collect();
        assert_eq!(agents.len(), AGENTS);
        for agent in agents {
            agent.stop().await;
        }
        let links = self.uplinks.iter().flat_map(|uplink| uplink.links());
        links.for_each(|link| link.set(LinkState::Cut));
        let coordinators = std::mem::take(&mut *self.balancer.coordinators.borrow_mut());
        for coordinator in coordinators.into_iter().flatten() {
            coordinator.stop().await;
        }
    }

    /// What is still in flight.
    fn left(&self) -> Option<String> {
        let coordinators = self.balancer.coordinators.borrow();
        let coordinators: Vec<_> = coordinators.iter().map(|it| it.as_ref().map(MemoryCoordinator::load)).collect();
        let agents = self.agents.borrow();
        let agents: Vec<_> = agents.iter().map(|it| it.as_ref().map(|agent| agent.snapshot().in_flight)).collect();
        let backends: Vec<_> = self.backends.iter().map(SimBackend::open).collect();
        let is_idle = coordinators.iter().all(|load| *load == Some((0, 0)))
            && agents.iter().all(|in_flight| *in_flight == Some(0))
            && backends.iter().all(|open| *open == 0)
            && self.changing.get() == 0;
        (!is_idle).then(|| format!("coordinators {coordinators:?}, agents {agents:?}, backends {backends:?}"))
    }
}
