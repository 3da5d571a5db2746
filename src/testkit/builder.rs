//! What an agent under test is made of.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::backend::ScriptedBackend;
use super::coordinator::ScriptedCoordinator;
use super::harness::{Clock, Harness, World};
use super::journal::{Journal, Trap};
use crate::actors::{ActorCount, Parts, PolicyOf, Settings, SupervisorActor};
use crate::backends::Source;
use crate::core::formats::policy::RemoteMedia;
use crate::core::scheduling::catalog::BackendPolicy;
use crate::identity::Identity;
use crate::messages::backend::BackendKind;
use crate::messages::ids::BackendId;
use crate::messages::prices::{Price, PriceList};
use crate::messages::secret::Secret;
use crate::messages::wire::Limits;
use crate::telemetry::Event;

/// Bytes that each direction of a connection holds.
const LINK_CAPACITY: usize = 64 * 1024;

/// Builds a [`Harness`]. What is not said is as the configuration's defaults say, with a paused clock and no backend.
#[must_use]
pub struct HarnessBuilder {
    clock: Clock,
    link_capacity: usize,
    identity: Option<Identity>,
    enrollment_code: Option<Secret>,
    sources: Vec<Box<dyn Source>>,
    backends: Vec<ScriptedBackend>,
    policy: PolicyOf,
    settings: Settings,
    panic_at: Option<Trap>,
}

impl Harness {
    /// An agent to be built.
    pub fn builder() -> HarnessBuilder {
        HarnessBuilder::new()
    }
}

impl HarnessBuilder {
    pub(super) fn new() -> Self {
        let price = Price { input_per_1m: 500_000, output_per_1m: 750_000 };
        Self {
            clock: Clock::Paused,
            link_capacity: LINK_CAPACITY,
            identity: None,
            enrollment_code: None,
            sources: Vec::new(),
            backends: Vec::new(),
            policy: Rc::new(|_, _| BackendPolicy { local: true, ..BackendPolicy::default() }),
            settings: Settings {
                limits: Limits { max_concurrent_total: 8, max_tokens_per_minute: None },
                prices: PriceList { default: price, by_model: std::collections::BTreeMap::new() },
                discovery_interval: Duration::from_secs(30),
                shutdown_grace: Duration::from_secs(30),
                max_message: 64 * 1024 * 1024,
                remote_media: RemoteMedia::Refused,
            },
            panic_at: None,
        }
    }

    /// Chooses the clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Adds a backend. When the harness stops, no request at it may be open.
    pub fn backend(mut self, backend: &ScriptedBackend) -> Self {
        self.sources.push(Box::new(backend.clone()));
        self.backends.push(backend.clone());
        self
    }

    /// Adds any other place where a backend may be.
    pub fn source(mut self, source: Box<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// What the operator says of backends; without it each is local and without a limit of its own.
    pub fn policy(mut self, policy: impl Fn(&BackendId, BackendKind) -> BackendPolicy + 'static) -> Self {
        self.policy = Rc::new(policy);
        self
    }

    /// Changes the agent's figures.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Jobs at once over all backends.
    pub fn max_concurrent(self, jobs: u32) -> Self {
        self.settings(|settings| settings.limits.max_concurrent_total = jobs)
    }

    /// The agent's key and provider id; without it a new one.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// What lets the agent in while it has no provider id.
    pub fn enrollment_code(mut self, code: &str) -> Self {
        self.enrollment_code = Some(Secret::new(code));
        self
    }

    /// Bytes that each direction of a connection holds while its reader does not read.
    pub fn link_capacity(mut self, bytes: usize) -> Self {
        self.link_capacity = bytes;
        self
    }

    /// The actor that emits such an event panics as it does.
    pub fn panic_at(mut self, event: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        self.panic_at = Some(Arc::new(event));
        self
    }

    /// Starts the agent on the current arbiter. It dials as soon as the test waits for anything.
    pub fn start(self) -> Harness {
        if self.clock == Clock::Paused {
            tokio::time::pause();
        }
        let identity = self.identity.map_or_else(Identity::ephemeral, Ok);
        let Ok(identity) = identity else { panic!("no random numbers for a key") };
        let (journal, events) = Journal::new(self.panic_at);
        let (coordinator, connector) = ScriptedCoordinator::new(self.link_capacity);
        let actor_count = ActorCount::default();
        let launched = SupervisorActor::launch(Parts {
            connector,
            identity: identity.clone(),
            enrollment_code: self.enrollment_code,
            sources: self.sources,
            policy: self.policy,
            arbiters: Vec::new(),
            events,
            actor_count: actor_count.clone(),
            settings: self.settings,
        });
        let (backends, clock) = (self.backends, self.clock);
        Harness::new(World { coordinator, identity, journal, backends, actor_count, clock }, launched)
    }
}
