//! The supervisor: starts the children, replaces them when they end, and shuts the process down.
//!
//! | child that ends unexpectedly | what follows |
//! | --- | --- |
//! | connection | the next one, after the backoff's wait |
//! | heartbeat | a new one for the same connection |
//! | router | its jobs are cancelled (they lived in its ledger), its connection is closed, a new router, the next connection |
//! | pool | its jobs end with `internal`, a new pool |
//! | discovery | a new one, which probes everything again |
//!
//! Each unexpected end, except the ordinary end of a connection, counts against one budget. When it is spent, the process
//! ends.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connection::ConnectionSetup;
use super::discovery::DiscoveryActor;
use super::guard::{ActorCount, Guard};
use super::messages::{CatalogChanged, GetRouterView};
use super::pool::WorkerPool;
use super::router::JobRouter;
use crate::backends::{BackendFactory, Source};
use crate::core::formats::policy::RemoteMedia;
use crate::core::restart::{RestartBudget, Verdict};
use crate::core::scheduling::router::RouterView;
use crate::identity::Identity;
use crate::messages::ids::{BackendId, CoordinatorId};
use crate::messages::lifecycle::{Child, Stop};
use crate::messages::load::{AskLoad, LoadSeen, RunDiscovery};
use crate::messages::prices::PriceList;
use crate::messages::secret::Secret;
use crate::messages::wire::Limits;
use crate::messages::workers::PoolLost;
use crate::relay::allowance::Allowance;
use crate::telemetry::Events;
use crate::telemetry::events::{ChildReplaced, GivingUp};
use crate::transport::websocket::link::Connector;

mod children;
mod connections;
mod drain;
mod links;
mod pause;

use links::Connections;

pub(crate) use super::discovery::PolicyOf;

/// Unexpected ends of children that are tolerated within [`BUDGET_WINDOW`].
const BUDGET: u32 = 10;
/// See [`BUDGET`].
const BUDGET_WINDOW: Duration = Duration::from_secs(60);
/// From the start, how long the first capabilities wait for the first probe of every backend.
const SETTLE: Duration = Duration::from_millis(250);

/// Figures that hold for the life of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's limits, as sent to the coordinator and enforced by the ledger; the largest message is `max_message`.
    pub limits: Limits,
    /// What models cost.
    pub prices: PriceList,
    /// Time between two probes of a backend.
    pub discovery_interval: Duration,
    /// How long running jobs have after a drain was requested.
    pub shutdown_grace: Duration,
    /// The largest message taken from the coordinator, in bytes.
    pub max_message: usize,
    /// Response bytes that a job may keep until the coordinator acknowledges them.
    pub kept_per_job: usize,
    /// The same for all jobs together, beyond what each may always keep.
    pub kept: usize,
    /// Whether requests may name media that backends fetch.
    pub remote_media: RemoteMedia,
    /// Whether only signatures that name the coordinator are made: a coordinator without the extension `auth2` gets none.
    pub requires_auth2: bool,
}

/// A coordinator, and who the agent is there.
pub struct Coordinator {
    /// Makes connections.
    pub connector: Rc<dyn Connector>,
    /// The agent's key, the same for all coordinators, and its provider id there.
    pub identity: Identity,
    /// Enrolls the agent while it has no provider id.
    pub enrollment_code: Option<Secret>,
}

/// What an agent is made of.
pub struct Parts {
    /// The coordinators, one or more.
    pub coordinators: Vec<Coordinator>,
    /// Where backends may be.
    pub sources: Vec<Box<dyn Source>>,
    /// The operator's settings for them.
    pub policy: PolicyOf,
    /// Where workers live, round robin; none means the supervisor's own arbiter.
    pub arbiters: Vec<ArbiterHandle>,
    /// Where events go.
    pub events: Events,
    /// Counts the living actors.
    pub actor_count: ActorCount,
    /// Figures.
    pub settings: Settings,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A clean shutdown.
    Drained,
    /// Children ended faster than the budget allows.
    GaveUp,
}

struct Pool {
    addr: Addr<WorkerPool>,
    factory: Arc<dyn BackendFactory>,
}

/// Between the first [`Drain`](crate::messages::lifecycle::Drain) and the end.
struct Draining {
    until: Instant,
    /// The last report of the router; `None` before the first.
    in_flight: Option<usize>,
    /// Running jobs are to end as soon as the router has reported how many there are.
    hurry: bool,
    /// The close frame is on its way, or nothing is left to close.
    closing: bool,
}

/// Starts, replaces and stops the actors of one agent.
pub struct SupervisorActor {
    sources: Rc<[Box<dyn Source>]>,
    policy: PolicyOf,
    arbiters: Arc<[ArbiterHandle]>,
    settings: Settings,
    events: Events,
    actor_count: ActorCount,
    started: Instant,

    /// Connections so far.
    connection_count: u64,
    /// The connections to each coordinator, by its id.
    coordinators: Vec<Connections>,
    router: Option<Addr<JobRouter>>,
    discovery: Option<Addr<DiscoveryActor>>,
    pools: HashMap<BackendId, Pool>,
    catalog: Option<CatalogChanged>,

    /// The living children by the number of their start: an end that carries another number is that of a predecessor.
    living: HashMap<Child, u64>,
    starts: u64,
    budget: RestartBudget,
    drain: Option<Draining>,
    /// The operator has paused the agent.
    paused: bool,
    done: Option<oneshot::Sender<Exit>>,
    _guard: Guard,
}

/// From a child's guard: the child has ended, whatever the cause. `start` tells it from its successors.
#[derive(Message)]
#[rtype(result = "()")]
struct ChildExited {
    child: Child,
    start: u64,
}

impl SupervisorActor {
    /// Starts an agent on the current arbiter. The receiver gets how it ended; if it fails, the supervisor panicked.
    pub fn launch(parts: Parts) -> (Addr<Self>, oneshot::Receiver<Exit>) {
        let (done, exit) = oneshot::channel();
        let sessions = Allowance::of_sessions(parts.settings.kept_per_job, parts.settings.kept);
        let signed = Rc::default();
        let coordinators = parts.coordinators.into_iter().zip(0..).map(|(coordinator, place)| {
            let Coordinator { connector, identity, enrollment_code } = coordinator;
            let setup = ConnectionSetup {
                connector,
                identity,
                signed: Rc::clone(&signed),
                enrollment_code,
                requires_auth2: parts.settings.requires_auth2,
                max_message: parts.settings.max_message,
                sessions: sessions.clone(),
                events: parts.events.clone(),
            };
            Connections::new(CoordinatorId(place), setup)
        });
        let coordinators = coordinators.collect();
        let arbiters = if parts.arbiters.is_empty() { vec![Arbiter::current()] } else { parts.arbiters };
        let supervisor = Self {
            sources: parts.sources.into(),
            policy: parts.policy,
            arbiters: arbiters.into(),
            settings: parts.settings,
            events: parts.events,
            _guard: Guard::new(&parts.actor_count, |_| {}),
            actor_count: parts.actor_count,
            started: Instant::now(),
            connection_count: 0,
            coordinators,
            router: None,
            discovery: None,
            pools: HashMap::new(),
            catalog: None,
            living: HashMap::new(),
            starts: 0,
            budget: RestartBudget::new(BUDGET, BUDGET_WINDOW),
            drain: None,
            paused: false,
            done: Some(done),
        };
        (supervisor.start(), exit)
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The first probes start before the dial.
        self.start_discovery(ctx);
        self.start_router(ctx);
        for coordinator in self.coordinator_ids() {
            self.start_connection(coordinator, ctx);
        }
    }
}

impl Handler<ChildExited> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, exited: ChildExited, ctx: &mut Self::Context) {
        let child = exited.child;
        if self.living.get(&child) != Some(&exited.start) {
            return;
        }
        self.living.remove(&child);
        self.events.emit(ChildReplaced { child: child.clone() });
        match self.budget.record(Instant::now().into_std()) {
            Verdict::Restart => self.replace(child, ctx),
            Verdict::GiveUp => {
                self.events.emit(GivingUp);
                self.finish(Exit::GaveUp, ctx);
            }
        }
    }
}

impl Handler<CatalogChanged> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, changed: CatalogChanged, ctx: &mut Self::Context) {
        // A discovery that replaces another removes nothing before it has probed every place itself.
        if !changed.complete && self.catalog.as_ref().is_some_and(|known| known.complete) {
            return;
        }
        for factory in &changed.backends {
            match self.pools.get(factory.id()) {
                Some(pool) if Arc::ptr_eq(&pool.factory, factory) => {}
                known => {
                    // Another server under the same name: jobs of the old one can't end well.
                    if let Some(pool) = known {
                        pool.addr.do_send(Stop);
                        if let Some(router) = &self.router {
                            router.do_send(PoolLost { backend: factory.id().clone() });
                        }
                    }
                    self.start_pool(factory, ctx);
                }
            }
        }
        self.catalog = Some(changed);
        self.publish_routes();
    }
}

impl Handler<RunDiscovery> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, run: RunDiscovery, _: &mut Self::Context) {
        if let Some(discovery) = &self.discovery {
            discovery.do_send(run);
        }
    }
}

impl Handler<AskLoad> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ask: AskLoad, _: &mut Self::Context) {
        if let Some(discovery) = &self.discovery {
            discovery.do_send(ask);
        }
    }
}

impl Handler<GetRouterView> for SupervisorActor {
    type Result = ResponseFuture<Option<RouterView>>;

    fn handle(&mut self, get: GetRouterView, _: &mut Self::Context) -> Self::Result {
        let router = self.router.clone();
        Box::pin(async move { router?.send(get).await.ok().flatten() })
    }
}

impl Handler<LoadSeen> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, seen: LoadSeen, _: &mut Self::Context) {
        if let Some(router) = &self.router {
            router.do_send(seen);
        }
    }
}
