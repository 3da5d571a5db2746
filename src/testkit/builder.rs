//! The parts of an agent under test.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::backend::ScriptedBackend;
use super::clock::Clock;
use super::journal::Trap;
use crate::actors::{PolicyOf, Settings};
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
pub(super) const LINK_CAPACITY: usize = 64 * 1024;

/// Builds an agent, for a [`Harness`](super::Harness) or as one of a [`World`](super::World). Without a setting it has the configuration's
/// defaults, a paused clock and no backend.
#[must_use]
pub struct AgentBuilder {
    pub(super) clock: Clock,
    pub(super) link_capacity: usize,
    pub(super) identity: Option<Identity>,
    pub(super) enrollment_code: Option<Secret>,
    pub(super) sources: Vec<Box<dyn Source>>,
    pub(super) backends: Vec<ScriptedBackend>,
    pub(super) policy: PolicyOf,
    pub(super) settings: Settings,
    pub(super) panic_at: Option<Trap>,
}

impl Default for AgentBuilder {
    fn default() -> Self {
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
                limits: Limits { max_concurrent_total: 8, max_tokens_per_minute: None, max_message_bytes: None },
                prices: PriceList { default: price, by_model: std::collections::BTreeMap::new() },
                discovery_interval: Duration::from_secs(30),
                shutdown_grace: Duration::from_secs(30),
                max_message: 64 * 1024 * 1024,
                kept_per_job: 1024 * 1024,
                kept: 64 * 1024 * 1024,
                remote_media: RemoteMedia::Refused,
                requires_auth2: false,
            },
            panic_at: None,
        }
    }
}

impl AgentBuilder {
    /// Chooses the clock of its harness. A world has one of its own.
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

    /// Adds any other source of a backend.
    pub fn source(mut self, source: Box<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// The configuration of backends; without it each is local and has no limit of its own.
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

    /// The enrollment code, which is sent while the agent has no provider id.
    pub fn enrollment_code(mut self, code: &str) -> Self {
        self.enrollment_code = Some(Secret::new(code));
        self
    }

    /// Bytes that each direction of a connection holds while its reader does not read. In a world this is the default.
    pub fn link_capacity(mut self, bytes: usize) -> Self {
        self.link_capacity = bytes;
        self
    }

    /// The actor that emits such an event panics as it does.
    pub fn panic_at(mut self, event: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        self.panic_at = Some(Arc::new(event));
        self
    }
}
