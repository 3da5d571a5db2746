//! The simulated world of a router: servers, a driver that carries out effects, and a coordinator that counts the ends of
//! jobs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::super::*;
use super::server::{Answer, Known, Server};
use super::submission::{Prompt, Request, Submissions};
use crate::core::scheduling::catalog::{Catalog, Seen, Terms};
use crate::core::session::delivery::Delivery;
use crate::messages::endpoint::Endpoint;
use crate::messages::jobs::Blame;
use crate::messages::prices::{Price, PriceList};
use crate::messages::wire::{ErrorCode, Extensions};

pub(super) const AGENT: u32 = 12;
pub(super) const BUDGET: u64 = 20_000;
pub(super) const MODELS: [&str; 3] = ["m0", "m1", "m2"];

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A job at a worker.
#[derive(Clone, Debug)]
pub(super) struct Run {
    backend: BackendId,
    may_retry: bool,
    /// Its last frame is queued: it can no longer be stopped.
    claimed: Option<Outcome>,
}

/// The servers, the router, its driver and the coordinator.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) servers: BTreeMap<BackendId, Server>,
    seen: BTreeMap<BackendId, Seen>,
    terms: Terms,
    /// Built of what was seen last.
    catalog: Arc<Catalog>,
    pub(super) router: Router<Prompt>,
    wake_at: Option<Instant>,
    pub(super) generation: Generation,
    pub(super) connected: bool,
    /// When offers were sent on this connection.
    pub(super) announced: Vec<Instant>,
    /// The jobs that the announcement of a drain on this connection reported.
    pub(super) drain_announced: Option<usize>,
    pub(super) submissions: Submissions,
    pub(super) running: BTreeMap<Ticket, Run>,
    /// Jobs whose error frame is queued, and the servers that they have left.
    pub(super) ending: BTreeMap<Ticket, Option<BackendId>>,
    asked: HashMap<BackendId, Instant>,
    lost_pools: HashSet<BackendId>,
    pub(super) draining: bool,
}

impl World {
    pub(super) fn new(servers: Vec<Server>, budget: Option<u64>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
        let now = Instant::now();
        let prices = PriceList { default: Price { input_per_1m: 9, output_per_1m: 9 }, by_model: BTreeMap::new() };
        let limits = Limits { max_concurrent_total: AGENT, max_tokens_per_minute: budget, max_message_bytes: None };
        let mut world = Self {
            now,
            servers: servers.into_iter().enumerate().map(|(n, server)| (format!("b{n}").into(), server)).collect(),
            seen: BTreeMap::new(),
            catalog: Arc::default(),
            terms: Terms { prices, max_concurrent: AGENT },
            router: Router::new(RouterSettings { limits, settle_at: now + ms(250) }, RandomState::new()),
            wake_at: None,
            generation: Generation::numbered(0),
            connected: false,
            announced: Vec::new(),
            drain_announced: None,
            submissions: Submissions::default(),
            running: BTreeMap::new(),
            ending: BTreeMap::new(),
            asked: HashMap::new(),
            lost_pools: HashSet::new(),
            draining: false,
        };
        let ids: Vec<BackendId> = world.servers.keys().cloned().collect();
        ids.iter().for_each(|id| world.probe(id));
        world.connect();
        world
    }

    pub(super) fn busy(&self, id: &BackendId) -> u32 {
        let server = &self.servers[id];
        let held = server.held.iter().filter(|until| **until > self.now).count();
        u32::try_from(self.worked(id) + held).unwrap() + server.foreign
    }

    /// Jobs of ours that a server is really working on.
    fn worked(&self, id: &BackendId) -> usize {
        self.running.values().filter(|run| run.backend == *id && run.claimed.is_none()).count()
    }

    /// Does what a probe of discovery does, which also reports the load if the server does.
    pub(super) fn probe(&mut self, id: &BackendId) {
        let Server { up, report, policy, slots, .. } = &self.servers[id];
        let (up, slots) = (*up, *slots);
        // A server always reports the same models.
        if up != self.seen.contains_key(id) {
            if up {
                self.seen.insert(id.clone(), Seen { report: report.clone(), policy: policy.clone() });
            } else {
                self.seen.remove(id);
            }
            self.catalog = Arc::new(Catalog::build(&self.seen, &self.terms));
        }
        self.publish();
        if up && self.servers[id].report.slots == Some(slots) {
            self.tell(id, self.now, ms(2250));
        }
    }

    fn publish(&mut self) {
        let ready = self.servers.keys().filter(|id| !self.lost_pools.contains(*id)).cloned().collect();
        let known = |world: &Self| world.router.backends.ids().cloned().collect::<Vec<_>>();
        let before = known(self);
        self.router.routes_changed(self.now, Arc::clone(&self.catalog), ready, true);
        for id in known(self).iter().filter(|id| !before.contains(id)) {
            // What it reported before it left the catalog, or while it was not in it, is dropped.
            let server = self.servers.get_mut(id).unwrap();
            if server.report.slots.is_some() && server.known == Known::Exactly {
                server.known = Known::Later;
            }
        }
        self.drive();
    }

    /// A report of the load. It may or may not count jobs that left less than `doubt` ago. It does not count requests in
    /// the server's queue.
    fn tell(&mut self, id: &BackendId, asked: Instant, doubt: Duration) {
        let (busy, now) = (self.busy(id), self.now);
        // A job whose last frame is not written yet counts as ours, although the server has finished it.
        let same_jobs = self.worked(id) == self.router.ledger.on_backend(id);
        let server = self.servers.get_mut(id).unwrap();
        let exact = same_jobs && busy <= server.slots && server.left.is_none_or(|left| now - left > doubt);
        server.known = match server.known {
            Known::Never => Known::Never,
            _ if exact => Known::Exactly,
            _ => Known::Later,
        };
        server.reported = Some(now);
        let reported = busy.min(server.slots);
        self.router.load_report(now, id, reported, asked);
        self.drive();
    }

    pub(super) fn connect(&mut self) {
        self.connect_with(Extensions::all());
    }

    pub(super) fn connect_with(&mut self, agreed: Extensions) {
        self.generation.number += 1;
        (self.connected, self.announced, self.drain_announced) = (true, Vec::new(), None);
        self.router.connection_up(self.now, self.generation, agreed, None);
        self.drive();
    }

    pub(super) fn disconnect(&mut self) {
        self.connected = false;
        self.router.connection_down(self.now, self.generation);
        self.drive();
        let outlives = self.submissions.open().any(|job| job.generation == self.generation);
        assert!(!outlives, "a job outlives its connection");
    }

    /// Lets time pass, and wakes the router when it is due.
    pub(super) fn wait(&mut self, wait: Duration) {
        let until = self.now + wait;
        while let Some(at) = self.wake_at.filter(|at| *at <= until) {
            (self.now, self.wake_at) = (self.now.max(at), None);
            self.router.tick(self.now);
            self.drive();
            let due = self.router.due_at(self.now);
            assert!(due.is_none_or(|due| due > self.now), "the router asks to be woken for what it has just done");
        }
        self.now = until;
        let due = self.router.due_at(self.now);
        assert!(due.is_none_or(|due| due >= self.now), "something is due and the router was not woken");
    }

    pub(super) fn submit(&mut self, id: JobId, model: &str, endpoint: Endpoint, request: Request, deadline: Duration) {
        let submission = self.submissions.add(id, self.generation);
        let (received, deadline) = (self.now, self.now + deadline);
        let work = Prompt { submission, request, progress: Progress::NotBegun, delivery: Delivery::new(false) };
        let job = NewJob { id, model: model.into(), endpoint, received, deadline };
        match self.router.submit(self.now, self.generation, job, work) {
            Submitted::Accepted => {}
            Submitted::AlreadyRuns => {
                let same = self.submissions.open().filter(|job| job.id == id);
                assert_eq!(same.count(), 2, "only a job that runs is a duplicate");
                self.submissions.refused(submission);
            }
            Submitted::AlreadyEnded => panic!("nothing is remembered without a session"),
            Submitted::Stale => {
                assert!(!self.connected);
                self.submissions.refused(submission);
            }
            Submitted::Refused(_) => self.submissions.refused(submission),
        }
        self.drive();
    }

    pub(super) fn cancel(&mut self, id: JobId, holds: Duration) {
        let before: Vec<Ticket> = self.running.keys().copied().collect();
        self.router.cancel(self.now, self.generation, id);
        let gone: Vec<Ticket> = before.into_iter().filter(|ticket| self.router.job(*ticket).is_none()).collect();
        for ticket in gone {
            self.abandon(ticket, holds);
        }
        self.drive();
    }

    /// Removes a job from its server, which may work on it for a while.
    fn abandon(&mut self, ticket: Ticket, holds: Duration) {
        let Some(Run { backend, claimed, .. }) = self.running.remove(&ticket) else { return };
        let now = self.now;
        let server = self.servers.get_mut(&backend).unwrap();
        server.left = Some(now);
        if claimed.is_none() {
            if holds >= ms(5000) || server.report.slots.is_none() {
                server.known = Known::Never;
            }
            server.held.push(now + holds);
        }
    }

    pub(super) fn lose_pool(&mut self, id: &BackendId) {
        self.lost_pools.insert(id.clone());
        self.router.pool_lost(self.now, id);
        self.drive();
    }

    pub(super) fn restore_pools(&mut self) {
        self.lost_pools.clear();
        self.publish();
    }

    /// The server of a running job acts according to its mood.
    pub(super) fn answer(&mut self, ticket: Ticket) {
        let Some(run) = self.running.get(&ticket).filter(|run| run.claimed.is_none()).cloned() else { return };
        let (failure, elsewhere) = match self.servers[&run.backend].answer() {
            Answer::NotYet => return,
            Answer::Begins(outcome) => {
                if let Some(work) = self.router.work(ticket) {
                    work.progress = Progress::Streamed(640);
                }
                self.running.get_mut(&ticket).unwrap().claimed = Some(outcome);
                return;
            }
            Answer::Fails { failure, elsewhere } => (failure, elsewhere),
        };
        if run.may_retry && elsewhere {
            self.running.remove(&ticket);
            self.servers.get_mut(&run.backend).unwrap().left = Some(self.now);
            self.router.failed(self.now, ticket, failure);
            self.drive();
        } else {
            self.running.get_mut(&ticket).unwrap().claimed = Some(Outcome::Failed(failure));
        }
    }

    /// The pump writes the last frame of a job, if it is queued.
    pub(super) fn write(&mut self, ticket: Ticket) {
        let outcome = if self.ending.remove(&ticket).is_some() {
            // For the router the job leaves the server only now.
            let backend = self.router.ledger.get(ticket).and_then(|entry| entry.backend.as_ref());
            if let Some(server) = backend.and_then(|id| self.servers.get_mut(id)) {
                server.left = Some(self.now);
            }
            let (code, blame, evidence) = (ErrorCode::Internal, Blame::Operator, Evidence::Nothing);
            Outcome::Failed(Failure { cause: Cause::Stopping, code, blame, evidence, probe: false })
        } else if let Some(outcome) = self.running.get(&ticket).and_then(|run| run.claimed.clone()) {
            let run = self.running.remove(&ticket).unwrap();
            self.servers.get_mut(&run.backend).unwrap().left = Some(self.now);
            outcome
        } else {
            return;
        };
        self.router.ended(self.now, UNIX_EPOCH, ticket, outcome, ms(5));
        self.drive();
    }

    /// Carries out the router's effects, and checks that they are valid.
    pub(super) fn drive(&mut self) {
        let mut asked = Vec::new();
        while let Some(effect) = self.router.next_effect() {
            match effect {
                Effect::Dispatch { ticket, backend, may_retry, .. } => {
                    assert!(self.router.work(ticket).is_some(), "EFFECT-REFERS: a job that is gone is dispatched");
                    assert!(self.servers.contains_key(&backend), "EFFECT-REFERS: to an unknown backend");
                    assert!(!self.lost_pools.contains(&backend), "EFFECT-REFERS: to a backend without workers");
                    let run = Run { backend: backend.clone(), may_retry, claimed: None };
                    assert!(self.running.insert(ticket, run).is_none(), "a job runs twice");
                    self.check_room(&backend);
                }
                Effect::Fail { ticket, .. } => {
                    assert!(self.router.work(ticket).is_some(), "EFFECT-REFERS: a job that is gone is ended");
                    if self.running.get(&ticket).is_none_or(|run| run.claimed.is_none()) {
                        let backend = self.running.get(&ticket).map(|run| run.backend.clone());
                        self.abandon(ticket, ms(0));
                        let first = self.ending.insert(ticket, backend).is_none();
                        assert!(first, "ONE-TERMINAL: a job is ended twice");
                    }
                }
                Effect::Cancel { work } => {
                    self.submissions.returned(work.submission);
                    let gone: Vec<Ticket> =
                        self.running.keys().filter(|ticket| self.router.job(**ticket).is_none()).copied().collect();
                    gone.into_iter().for_each(|ticket| self.abandon(ticket, ms(0)));
                    // For the router these leave their servers only now.
                    let ended = self.ending.extract_if(.., |ticket, _| self.router.job(*ticket).is_none());
                    for backend in ended.filter_map(|(_, backend)| backend) {
                        self.servers.get_mut(&backend).unwrap().left = Some(self.now);
                    }
                }
                Effect::Release { work } => self.submissions.returned(work.submission),
                Effect::Probe(backend) => assert!(self.servers.contains_key(&backend), "EFFECT-REFERS"),
                Effect::AskLoad(backend) => {
                    if let Some(last) = self.asked.insert(backend.clone(), self.now) {
                        assert!(self.now - last >= ms(1000), "asked for its load more than once a second");
                    }
                    asked.push(backend);
                }
                Effect::Announce { generation, capabilities } => self.take_offer(generation, &capabilities),
                Effect::Attach { .. } | Effect::Close { .. } => panic!("a session outlives its connection"),
                Effect::AnnounceDrain { generation, in_flight } => {
                    assert!(self.draining && generation == self.generation && !self.announced.is_empty());
                    assert_eq!(self.drain_announced.replace(in_flight), None, "a drain is announced twice");
                }
                Effect::StillRunning(jobs) => assert!(self.draining && jobs <= AGENT as usize),
                Effect::WakeAt(at) => self.wake_at = Some(at),
                Effect::Event(RouterEvent::Ended { job, .. }) => self.submissions.ended(job),
                Effect::Event(_) => {}
            }
        }
        for backend in asked.into_iter().filter(|backend| self.servers[backend].up).collect::<Vec<_>>() {
            self.tell(&backend, self.now, ms(250));
        }
    }

    /// Servers answer and frames are written until no job is running.
    pub(super) fn run_all(&mut self) {
        while let Some(ticket) = self.running.keys().chain(self.ending.keys()).next().copied() {
            self.answer(ticket);
            self.write(ticket);
        }
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.router.set_paused(self.now, paused);
        self.drive();
    }

    pub(super) fn stop(&mut self, at_once: bool) {
        self.draining = true;
        if at_once {
            self.router.end_jobs(self.now)
        } else {
            self.router.stop_accepting(self.now)
        }
        self.drive();
    }

    /// Inputs of a job, a connection and a backend that the router does not know. They change nothing.
    pub(super) fn stray_inputs(&mut self, n: u64) {
        let (ticket, stale) = (Ticket(u64::MAX - n), Generation::numbered(u64::MAX - n));
        let before = self.router.ledger.in_flight();
        let (cause, code) = (Cause::BackendError, ErrorCode::Internal);
        let failure = Failure { cause, code, blame: Blame::Backend, evidence: Evidence::Backend, probe: true };
        self.router.failed(self.now, ticket, failure);
        self.router.ended(self.now, UNIX_EPOCH, ticket, Outcome::Cancelled, ms(1));
        self.router.load_report(self.now, &"unknown".into(), 3, self.now);
        self.router.connection_down(self.now, stale);
        if let Some(job) = self.submissions.last() {
            self.router.cancel(self.now, stale, job.id);
        }
        self.drive();
        assert_eq!(self.router.ledger.in_flight(), before);
    }
}
