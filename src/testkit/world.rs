//! Several real agents and several coordinators in one test.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinSet;

use super::builder::{AgentBuilder, LINK_CAPACITY};
use super::clock::Clock;
use super::coordinator::ScriptedCoordinator;
use super::running_agent::RunningAgent;
use super::wire::{Cut, Wire};
use crate::config::{CoordinatorConfig, MapEnvironment};
use crate::coordinator::{CoordinatorHandle, bind};
use crate::transport::dial::WebSocketConnector;
use crate::transport::stream::DialError;
use crate::transport::tls::client_config;
use crate::transport::websocket::link::{Connector, Upgraded};

/// Agents and their coordinators.
///
/// Coordinators and agents are counted from 0, in the order in which the builder was given them.
///
/// ```
/// use outpost::testkit::{Harness, ScriptedBackend, World};
///
/// # actix_rt::System::new().block_on(async {
/// let (left, right) = (ScriptedBackend::new("left", &["a"]), ScriptedBackend::new("right", &["b"]));
/// let mut world = World::builder()
///     .scripted_coordinators(2)
///     .agent(0, Harness::builder().backend(&left))
///     .agent(1, Harness::builder().backend(&right))
///     .start();
/// for (number, model) in ["a", "b"].into_iter().enumerate() {
///     let mut link = world.scripted(number).serving(model).await;
///     let job = link.job(model, "{}");
///     link.outcome_of(job).await.done();
/// }
/// world.stop().await;
/// # });
/// ```
pub struct World {
    /// The agents.
    pub agents: Vec<RunningAgent>,
    /// The way of each agent to the last one of its coordinators that is real.
    uplinks: Vec<Option<Rc<Uplink>>>,
    coordinators: Vec<Coordinator>,
    clock: Clock,
}

enum Coordinator {
    Scripted(ScriptedCoordinator, Rc<dyn Connector>),
    Real(RealCoordinator),
}

/// The coordinator of this crate, on a free port of this host, until it is dropped.
pub struct RealCoordinator {
    addr: SocketAddr,
    handle: CoordinatorHandle,
    serving: JoinSet<()>,
}

/// Builds a [`World`].
#[must_use]
pub struct WorldBuilder {
    coordinators: Vec<Option<CoordinatorConfig>>,
    agents: Vec<(Vec<usize>, AgentBuilder)>,
}

impl WorldBuilder {
    /// Adds so many scripted coordinators, in memory.
    pub fn scripted_coordinators(mut self, count: usize) -> Self {
        self.coordinators.extend((0..count).map(|_| None));
        self
    }

    /// Adds the real coordinator with this configuration. Its agents connect over TCP, so the clock of the world runs.
    pub fn real_coordinator(mut self, config: CoordinatorConfig) -> Self {
        self.coordinators.push(Some(config));
        self
    }

    /// Adds an agent of the coordinator with this number.
    pub fn agent(self, coordinator: usize, agent: AgentBuilder) -> Self {
        self.agent_of(&[coordinator], agent)
    }

    /// Adds an agent of the coordinators with these numbers, in this order.
    pub fn agent_of(mut self, coordinators: &[usize], agent: AgentBuilder) -> Self {
        self.agents.push((coordinators.to_vec(), agent));
        self
    }

    /// Starts everything. The agents dial as soon as the test waits for anything.
    pub fn start(self) -> World {
        let real = self.coordinators.iter().any(Option::is_some);
        let clock = if real { Clock::Unchanged } else { Clock::Paused };
        clock.start();
        let coordinators: Vec<Coordinator> = self.coordinators.into_iter().map(Coordinator::start).collect();
        let mut world = World { agents: Vec::new(), uplinks: Vec::new(), coordinators, clock };
        for (numbers, agent) in self.agents {
            let mut uplink = None;
            let connector = |number| match world.coordinators.get(number) {
                Some(Coordinator::Scripted(_, connector)) => Rc::clone(connector),
                Some(Coordinator::Real(real)) => {
                    let connector = uplink.insert(Uplink::to(&real.agent_url()));
                    Rc::clone(connector) as Rc<dyn Connector>
                }
                None => panic!("there is no coordinator {number}"),
            };
            let connectors = numbers.into_iter().map(connector).collect();
            world.agents.push(RunningAgent::launch(agent, connectors));
            world.uplinks.push(uplink);
        }
        world
    }
}

impl World {
    /// A world to be built.
    pub fn builder() -> WorldBuilder {
        WorldBuilder { coordinators: Vec::new(), agents: Vec::new() }
    }

    /// The coordinator with this number, which must be a scripted one.
    pub fn scripted(&mut self, number: usize) -> &mut ScriptedCoordinator {
        match self.coordinators.get_mut(number) {
            Some(Coordinator::Scripted(coordinator, _)) => coordinator,
            _ => panic!("there is no scripted coordinator {number}"),
        }
    }

    /// The coordinator with this number, which must be a real one.
    pub fn real(&self, number: usize) -> &RealCoordinator {
        match self.coordinators.get(number) {
            Some(Coordinator::Real(coordinator)) => coordinator,
            _ => panic!("there is no real coordinator {number}"),
        }
    }

    /// Cuts the network of an agent of a real coordinator: its connection breaks, and no later dial succeeds.
    pub fn cut_off(&self, agent: usize) {
        match self.uplinks.get(agent) {
            Some(Some(uplink)) => uplink.fail(),
            _ => panic!("agent {agent} has no real coordinator"),
        }
    }

    /// Resets the connection of an agent to its real coordinator. A later dial succeeds.
    pub fn reset_connection(&self, agent: usize) {
        match self.uplinks.get(agent) {
            Some(Some(uplink)) => uplink.reset(),
            _ => panic!("agent {agent} has no real coordinator"),
        }
    }

    /// Ends all agents, and then the coordinators. Fails if something of an agent is left, or if one broke the protocol.
    pub async fn stop(mut self) {
        for agent in &mut self.agents {
            agent.end().await;
        }
        for coordinator in &mut self.coordinators {
            match coordinator {
                Coordinator::Scripted(coordinator, _) => coordinator.faults.assert_none(),
                Coordinator::Real(coordinator) => coordinator.stop().await,
            }
        }
        self.clock.stop();
    }
}

impl Coordinator {
    fn start(config: Option<CoordinatorConfig>) -> Self {
        match config {
            None => {
                let (coordinator, connector) = ScriptedCoordinator::new(LINK_CAPACITY);
                Self::Scripted(coordinator, connector)
            }
            Some(config) => Self::Real(RealCoordinator::start(config)),
        }
    }
}

impl RealCoordinator {
    /// The default configuration, for a free port of this host.
    pub fn config() -> CoordinatorConfig {
        let env = MapEnvironment::from([("OUTPOST_COORDINATOR_LISTEN", "127.0.0.1:0")]);
        match CoordinatorConfig::from_env(&env) {
            Ok((config, _)) => config,
            Err(_) => panic!("the default configuration has errors"),
        }
    }

    /// Starts one on the current arbiter.
    pub fn start(config: CoordinatorConfig) -> Self {
        let server = bind(config).unwrap_or_else(|error| panic!("the coordinator does not start: {error}"));
        let (addr, handle) = (server.local_addr(), server.handle());
        let mut serving = JoinSet::new();
        serving.spawn_local(async move {
            if let Err(error) = server.run().await {
                panic!("the coordinator failed: {error}");
            }
        });
        Self { addr, handle, serving }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where agents connect.
    pub fn agent_url(&self) -> String {
        format!("ws://{}/agent", self.addr)
    }

    /// Stops it from elsewhere.
    pub fn handle(&self) -> &CoordinatorHandle {
        &self.handle
    }

    /// Stops it. Fails if it failed.
    async fn stop(&mut self) {
        self.handle.stop().await;
        while let Some(ended) = self.serving.join_next().await {
            if let Err(error) = ended {
                panic!("the coordinator failed: {error}");
            }
        }
    }
}

/// An agent's way to a real coordinator, which a test can cut.
struct Uplink {
    connector: WebSocketConnector,
    /// Of the last connection.
    cut: RefCell<Arc<Cut>>,
    failed: Cell<bool>,
}

impl Uplink {
    fn to(url: &str) -> Rc<Self> {
        // An error means that there is a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = client_config(None).unwrap_or_else(|error| panic!("no TLS: {error}"));
        let Ok(url) = url.parse() else { panic!("not a URL: {url}") };
        let connector = WebSocketConnector::new(url, tls, None);
        Rc::new(Self { connector, cut: RefCell::default(), failed: Cell::new(false) })
    }

    fn fail(&self) {
        self.failed.set(true);
        self.reset();
    }

    fn reset(&self) {
        self.cut.borrow().with(std::io::ErrorKind::ConnectionReset);
    }
}

impl Connector for Uplink {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>> {
        if self.failed.get() {
            return std::future::ready(Err(DialError::TimedOut)).boxed_local();
        }
        let (dial, cut) = (self.connector.dial(), Arc::<Cut>::default());
        self.cut.replace(Arc::clone(&cut));
        async move {
            let Upgraded { stream, leftover } = dial.await?;
            Ok(Upgraded { stream: Box::new(Wire { stream, cut }), leftover })
        }
        .boxed_local()
    }

    fn target(&self) -> &str {
        self.connector.target()
    }
}
