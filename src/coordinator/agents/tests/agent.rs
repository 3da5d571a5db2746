//! The agent's end: the router, its driver, the responses of its jobs, and the rules of the supervisor about connections.

use std::collections::{BTreeMap, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::link::{AgentEnd, Down, Link, Up};
use super::world::Bounds;
use crate::core::fingerprint::Fingerprint;
use crate::core::scheduling::catalog::{BackendPolicy, Catalog, Seen, Terms};
use crate::core::scheduling::estimate::Outline;
use crate::core::scheduling::router::{Effect, FailCause, NewJob, Progress, Router, RouterSettings, Submitted, Work};
use crate::core::session::delivery::Delivery;
use crate::messages::backend::BackendKind;
use crate::messages::cause::Cause;
use crate::messages::discovery::{BackendReport, ModelReport};
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::{BackendId, Generation, JobId};
use crate::messages::jobs::{Blame, Evidence, Failure, Outcome, Ticket};
use crate::messages::prices::{Price, PriceList};
use crate::messages::wire::{ErrorCode, Extension, Extensions, Limits, Tokens};

/// How long a job may take.
const DEADLINE: Duration = Duration::from_secs(40);

/// The driver's part of a job: how far its response has come, and which connection gets its frames.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) job: JobId,
    pub(super) delivery: Delivery,
    pub(super) connection: Generation,
    /// Whether it ended well, once it has ended.
    pub(super) ended_well: Option<bool>,
}

impl Work for Response {
    fn outline(&self) -> Option<Outline<'_>> {
        None
    }

    fn progress(&self) -> Progress {
        if self.delivery.produced() == 0 { Progress::NotBegun } else { Progress::Begun }
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn acknowledge(&mut self, offset: u64) {
        self.delivery.acknowledge(offset);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) router: Router<Response>,
    pub(super) wake_at: Option<Instant>,
    agreed: Extensions,
    last: Generation,
    /// The connection that takes jobs, and the one that it replaced.
    current: Option<Generation>,
    older: Option<Generation>,
    /// Jobs at backends, and whether another backend could retry them.
    pub(super) working: BTreeMap<Ticket, (BackendId, bool)>,
    /// Ends of jobs that are in the router's mailbox.
    pub(super) ends: VecDeque<(Ticket, JobId, bool)>,
    /// Jobs that the router has accepted at any time.
    accepted: Vec<JobId>,
}

impl Agent {
    /// An agent with backends of one slot each.
    pub(super) fn new(now: Instant, bounds: &Bounds, agreed: Extensions) -> Self {
        let Bounds { slots, excess, reports, .. } = *bounds;
        let limits =
            Limits { max_concurrent_total: slots + excess, max_tokens_per_minute: None, max_message_bytes: None };
        let mut router = Router::new(RouterSettings { limits, settle_at: now }, RandomState::new());
        let seen = |n: u32| {
            let model = ModelReport { id: "m".into(), context_window: None, endpoints: Endpoints::CHAT, price: None };
            let (kind, models, slots) = (BackendKind::Vllm, vec![model], reports.then_some(1));
            let report = BackendReport { kind, models, slots, active_requests: None, cloud_models: 0 };
            let policy = BackendPolicy { local: true, max_concurrent: Some(1), ..BackendPolicy::default() };
            (BackendId::from(format!("b{n}")), Seen { report, policy })
        };
        let seen: BTreeMap<BackendId, Seen> = (0..slots).map(seen).collect();
        let prices = PriceList { default: Price { input_per_1m: 9, output_per_1m: 9 }, by_model: BTreeMap::new() };
        let catalog = Catalog::build(&seen, &Terms { prices, max_concurrent: slots });
        router.routes_changed(now, Arc::new(catalog), seen.keys().cloned().collect(), true);
        for backend in seen.keys().filter(|_| reports) {
            router.load_report(now, backend, 0, now);
        }
        let (last, working, ends) = (Generation::numbered(0), BTreeMap::new(), VecDeque::new());
        let (current, older, accepted) = (None, None, Vec::new());
        let mut agent = Self { router, wake_at: None, agreed, last, current, older, working, ends, accepted };
        agent.drive(now, &mut Vec::new());
        agent
    }

    fn keeps(&self) -> bool {
        self.agreed.contains(Extension::Resume)
    }

    /// Whether the supervisor dials: there is no current connection, or it is handed over; and none is being dialled.
    pub(super) fn may_dial(&self, links: &[Link]) -> bool {
        let is_dialling = links.iter().any(|link| link.agent == AgentEnd::Dialling);
        !is_dialling && (self.current.is_none() || self.is_handed_over(links))
    }

    /// Whether the coordinator wants the agent to leave the current connection.
    pub(super) fn is_handed_over(&self, links: &[Link]) -> bool {
        links.iter().any(|link| Some(link.generation) == self.current && link.is_handed_over)
    }

    pub(super) fn dial(&mut self, now: Instant, links: &mut Vec<Link>) {
        self.last.number += 1;
        let request = self.router.offer_session(now, self.last);
        links.push(Link::new(self.last, request.filter(|_| self.keeps())));
        self.drive(now, links);
    }

    /// Takes the next frame of a connection.
    pub(super) fn read(&mut self, now: Instant, at: usize, links: &mut Vec<Link>) {
        let (generation, is_current) = (links[at].generation, self.current == Some(links[at].generation));
        match links[at].down.pop_front().expect("a frame") {
            Down::Welcome(grant) => {
                links[at].agent = AgentEnd::Up;
                self.router.connection_up(now, generation, self.agreed, grant);
                self.drive(now, links);
                // No more than two connections are kept.
                if let Some(oldest) = self.older.take() {
                    self.lose(now, oldest, links);
                }
                self.older = self.current.replace(generation);
            }
            Down::Job(id) => {
                let (model, endpoint) = ("m".into(), Endpoint::ChatCompletions);
                let new = NewJob { id, model, endpoint, received: now, deadline: now + DEADLINE };
                let delivery = Delivery::new(self.keeps());
                let work = Response { job: id, delivery, connection: generation, ended_well: None };
                match self.router.submit(now, generation, new, work) {
                    Submitted::Refused(_) => links[at].up.push_back(Up::Refused(id)),
                    Submitted::Accepted => {
                        assert!(!self.accepted.contains(&id), "RUNS-ONCE: a job runs twice");
                        self.accepted.push(id);
                    }
                    Submitted::AlreadyRuns | Submitted::AlreadyEnded | Submitted::Stale => {}
                }
            }
            Down::Cancel(id) => self.router.cancel(now, generation, id),
            Down::Ack(id, taken) => self.router.acknowledged(generation, id, taken),
            Down::Handover if is_current && !links[at].is_handed_over => {
                links[at].is_handed_over = true;
                if let Some(older) = self.older {
                    self.seal(older, links);
                }
            }
            Down::Handover => {}
            Down::Close => self.lose(now, generation, links),
        }
        self.drive(now, links);
    }

    /// The agent's end of a connection is gone.
    pub(super) fn lose(&mut self, now: Instant, generation: Generation, links: &mut Vec<Link>) {
        let Some(link) = links.iter_mut().find(|link| link.generation == generation) else { return };
        link.agent = AgentEnd::Gone;
        link.down.clear();
        self.current.take_if(|current| *current == generation);
        self.older.take_if(|older| *older == generation);
        self.router.connection_down(now, generation);
        self.drive(now, links);
    }

    /// Closes a connection without writing what waits.
    pub(super) fn seal(&mut self, generation: Generation, links: &mut [Link]) {
        let open = |link: &&mut Link| {
            link.generation == generation && matches!(link.agent, AgentEnd::Up | AgentEnd::ClosesBehind)
        };
        if let Some(link) = links.iter_mut().find(open) {
            link.agent = AgentEnd::Closing;
            link.up.push_back(Up::Close);
        }
    }

    /// A backend produces a byte.
    pub(super) fn produce(&mut self, ticket: Ticket) {
        self.router.work(ticket).expect("a job at work").delivery.produce(1);
    }

    /// A backend ends a job, or the router does.
    pub(super) fn end(&mut self, ticket: Ticket, well: bool) {
        self.working.remove(&ticket);
        let keeps = self.keeps();
        let work = self.router.work(ticket).expect("a job that has not ended");
        if work.ended_well.is_some() {
            return;
        }
        work.ended_well = Some(well);
        work.delivery.end();
        if keeps {
            self.ends.push_back((ticket, work.job, well));
        }
    }

    /// A backend fails a job before the first byte. Another one may retry it.
    pub(super) fn fail_try(&mut self, now: Instant, ticket: Ticket, links: &mut Vec<Link>) {
        self.working.remove(&ticket);
        self.router.failed(now, ticket, failure(Evidence::Backend));
        self.drive(now, links);
    }

    /// The router takes the end of a job from its mailbox.
    pub(super) fn take_end(&mut self, now: Instant, links: &mut Vec<Link>) {
        let (ticket, _, well) = self.ends.pop_front().expect("an end");
        let done = Outcome::Done { tokens: Tokens::default() };
        let outcome = if well { done } else { Outcome::Failed(failure(Evidence::Nothing)) };
        self.router.ended(now, UNIX_EPOCH, ticket, outcome, Duration::ZERO);
        self.drive(now, links);
    }

    /// Whether a job has something to write, the connection of which has room.
    pub(super) fn may_write(&self, work: &Response, room: usize, links: &[Link]) -> bool {
        let Some(link) = links.iter().find(|link| link.generation == work.connection) else { return false };
        let is_open = matches!(link.agent, AgentEnd::Up | AgentEnd::ClosesBehind) && link.up.len() < room;
        // The end of a job is in the router's mailbox before its terminal frame is written, so it is before all that follows from
        // that frame.
        let is_known = !self.ends.iter().any(|(_, job, _)| *job == work.job);
        is_open && (work.delivery.unwritten() > 0 || work.delivery.terminal_is_due() && is_known)
    }

    /// Writes the next frame of a job.
    pub(super) fn write(&mut self, ticket: Ticket, links: &mut [Link]) {
        let keeps = self.keeps();
        let work = self.router.work(ticket).expect("a job with a response");
        let link = links.iter_mut().find(|link| link.generation == work.connection).expect("a connection");
        assert!(!link.ended.contains(&work.job), "STREAM: a frame follows the terminal frame of its job");
        let (offset, bytes) = (work.delivery.written(), work.delivery.unwritten());
        if bytes > 0 {
            work.delivery.wrote(bytes);
            link.up.push_back(Up::Chunk(work.job, offset, bytes));
        } else {
            work.delivery.wrote_terminal();
            link.up.push_back(Up::Terminal(work.job, work.delivery.produced()));
            link.ended.push(work.job);
            if !keeps {
                self.ends.push_back((ticket, work.job, work.ended_well == Some(true)));
            }
        }
        self.close_written(links);
    }

    /// Sends the close frames that waited for what has been written now.
    fn close_written(&self, links: &mut [Link]) {
        for link in links.iter_mut().filter(|link| link.agent == AgentEnd::ClosesBehind) {
            let is_written = |work: &Response| {
                work.connection != link.generation || work.delivery.unwritten() == 0 && !work.delivery.terminal_is_due()
            };
            if self.router.works().all(|(_, work)| is_written(work)) {
                link.agent = AgentEnd::Closing;
                link.up.push_back(Up::Close);
            }
        }
    }

    pub(super) fn tick(&mut self, now: Instant, links: &mut Vec<Link>) {
        self.wake_at = None;
        self.router.tick(now);
        self.drive(now, links);
    }

    pub(super) fn stop(&mut self, now: Instant, at_once: bool, links: &mut Vec<Link>) {
        if at_once {
            self.router.end_jobs(now)
        } else {
            self.router.stop_accepting(now)
        }
        self.drive(now, links);
    }

    /// Carries out the router's effects.
    fn drive(&mut self, now: Instant, links: &mut Vec<Link>) {
        let mut asked = Vec::new();
        while let Some(effect) = self.router.next_effect() {
            match effect {
                Effect::Dispatch { ticket, backend, may_retry, .. } => {
                    let is_busy = self.working.values().any(|(other, _)| *other == backend);
                    assert!(!is_busy, "SLOT: a backend with one slot gets two jobs");
                    let before = self.working.insert(ticket, (backend, may_retry));
                    assert!(before.is_none(), "RUNS-ONCE: a job runs twice");
                }
                Effect::Fail { cause: FailCause::NotKept, .. } => {
                    panic!("BYTES: the coordinator wants bytes that the agent has given up")
                }
                Effect::Fail { ticket, .. } => self.end(ticket, false),
                Effect::Attach { ticket, generation, offset } => {
                    let work = self.router.work(ticket).expect("a job that goes on");
                    work.connection = generation;
                    assert_eq!(work.delivery.resume(offset), Ok(()));
                }
                Effect::Cancel { .. } | Effect::Release { .. } => {
                    let router = &self.router;
                    self.working.retain(|ticket, _| router.job(*ticket).is_some());
                }
                Effect::WakeAt(at) => self.wake_at = Some(at),
                Effect::Close { generation, now: true } => self.seal(generation, links),
                Effect::Close { generation, now: false } => {
                    let open = |link: &&mut Link| link.generation == generation && link.agent == AgentEnd::Up;
                    links.iter_mut().filter(open).for_each(|link| link.agent = AgentEnd::ClosesBehind);
                }
                Effect::Announce { generation, capabilities } => {
                    self.send(generation, Up::Offer(capabilities), links);
                }
                Effect::AnnounceDrain { generation, .. } => self.send(generation, Up::Drain, links),
                Effect::AskLoad(backend) => asked.push(backend),
                Effect::Probe(_) | Effect::StillRunning(_) | Effect::Event(_) => {}
            }
        }
        self.close_written(links);
        let kept = |id: &JobId| self.router.works().any(|(_, work)| work.job == *id);
        links.iter_mut().for_each(|link| link.ended.retain(kept));
        for backend in asked {
            let active = self.working.values().filter(|(other, _)| *other == backend).count() as u32;
            self.router.load_report(now, &backend, active, now);
            self.drive(now, links);
        }
    }

    fn send(&self, generation: Generation, frame: Up, links: &mut [Link]) {
        let open = |link: &&mut Link| link.generation == generation && link.agent == AgentEnd::Up;
        links.iter_mut().filter(open).for_each(|link| link.up.push_back(frame.clone()));
    }

    /// The router's own invariants, of which those of its ledger are a part.
    pub(super) fn check(&self) {
        assert_eq!(self.router.check(), Ok(()), "SLOT: an invariant of the router is broken");
    }

    /// Whether a job waits for a slot.
    pub(super) fn has_waiting(&self) -> bool {
        let is_busy = |ticket| self.working.contains_key(&ticket);
        self.router.works().any(|(ticket, work)| work.ended_well.is_none() && !is_busy(ticket))
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.working.is_empty() && self.ends.is_empty() && self.router.counts() == (0, 0) && self.router.sessions() <= 1
    }

    pub(super) fn add_to(&self, to: &mut Fingerprint<'_>) {
        let Self { router, wake_at, agreed: _, last: _, current, older, working, ends, accepted } = self;
        router.add_to(to);
        to.add((wake_at.map(|at| to.time(at)), current.map(|id| to.connection(id)), older.map(|id| to.connection(id))));
        for (ticket, work) in router.works() {
            let Response { job, delivery, connection, ended_well } = work;
            // How it ended counts until the router has got it.
            let ended = ended_well.map(|well| router.job(ticket).map(|_| well));
            to.add_of(*job, (delivery, to.connection(*connection), ended, working.get(&ticket)));
        }
        for (place, (ticket, job, well)) in ends.iter().enumerate() {
            to.add_of(*job, ("end", place, well, router.job(*ticket).is_some()));
        }
        for job in accepted.iter().filter(|job| to.is_expected(**job)).collect::<Vec<_>>() {
            to.add_of(*job, "was accepted");
        }
    }
}

fn failure(evidence: Evidence) -> Failure {
    let (cause, code) = (Cause::BackendError, ErrorCode::Internal);
    Failure { cause, code, blame: Blame::Backend, evidence, probe: false }
}
