//! The usual test: one real agent and its scripted coordinator, in memory.

use std::ops::{Deref, DerefMut};

use super::builder::AgentBuilder;
use super::clock::Clock;
use super::coordinator::ScriptedCoordinator;
use super::link::CoordinatorLink;
use super::running_agent::RunningAgent;

/// An agent and its coordinator. A harness can do what its [`RunningAgent`] can.
pub struct Harness {
    /// The other end of the wire.
    pub coordinator: ScriptedCoordinator,
    agent: RunningAgent,
    clock: Clock,
}

impl Harness {
    /// An agent to be built.
    pub fn builder() -> AgentBuilder {
        AgentBuilder::default()
    }

    /// The agent's next connection, with its handshake done and its first capabilities read.
    pub async fn connect(&mut self) -> CoordinatorLink {
        let mut link = self.coordinator.welcome().await;
        link.capabilities().await;
        link
    }

    /// Ends the agent, at once if it has not ended yet. Fails if something of it is left, or if it broke the protocol.
    pub async fn stop(mut self) {
        self.agent.end().await;
        self.coordinator.faults.assert_none();
        self.clock.stop();
    }
}

impl AgentBuilder {
    /// Starts the agent on the current arbiter, with a scripted coordinator. It dials as soon as the test waits for
    /// anything.
    pub fn start(self) -> Harness {
        let clock = self.clock;
        clock.start();
        let (coordinator, connector) = ScriptedCoordinator::new(self.link_capacity);
        Harness { coordinator, agent: RunningAgent::launch(self, vec![connector]), clock }
    }
}

impl Deref for Harness {
    type Target = RunningAgent;

    fn deref(&self) -> &RunningAgent {
        &self.agent
    }
}

impl DerefMut for Harness {
    fn deref_mut(&mut self) -> &mut RunningAgent {
        &mut self.agent
    }
}
