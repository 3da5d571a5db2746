//! Binds, runs and stops a coordinator.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::{Server, ServerHandle};

use super::connections;
use super::error::{self, CoordinatorError};
use super::state::CoordinatorState;
use crate::config::{AgentHosts, CoordinatorConfig};
use crate::coordinator::agents::link::CloseReason;
use crate::coordinator::agents::session_lifecycle::expire_sessions;
use crate::coordinator::events::{
    ApiWithoutKey, CoordinatorListening, CoordinatorStopped, CoordinatorStopping, JobsCutShort,
    count_repeats_each_minute,
};
use crate::messages::wire::EXTENSION_TIMES;
use crate::transport::tcp::reachable;

/// A coordinator that listens on its port. It serves nothing before [`CoordinatorServer::run`].
pub struct CoordinatorServer {
    server: Server,
    state: Arc<CoordinatorState>,
    local_addr: SocketAddr,
}

/// Stops a coordinator from another task.
#[derive(Clone)]
pub struct CoordinatorHandle {
    server: ServerHandle,
    state: Arc<CoordinatorState>,
}

/// Binds a coordinator.
pub fn bind(config: CoordinatorConfig) -> Result<CoordinatorServer, CoordinatorError> {
    error::check(&config)?;
    let listen = config.listen;
    let in_bind = |source| CoordinatorError::Bind { listen, source };
    let listener = connections::listen(listen).map_err(in_bind)?;
    let local_addr = listener.local_addr().map_err(in_bind)?;
    let names = match &config.agent_hosts {
        AgentHosts::Named(names) => names.clone(),
        AgentHosts::OwnAddress => reachable(local_addr).to_string().parse().into_iter().collect(),
    };
    let state = CoordinatorState::new(config, names);
    if state.config.api_key.is_none() {
        state.events.emit(&ApiWithoutKey { listen });
    }
    let server = connections::serve(listener, local_addr, &state).map_err(in_bind)?;
    Ok(CoordinatorServer { server, state, local_addr })
}

impl CoordinatorServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle to stop it.
    pub fn handle(&self) -> CoordinatorHandle {
        CoordinatorHandle { server: self.server.handle(), state: self.state.clone() }
    }

    /// Serves until it is stopped. Must be awaited on an actix system.
    pub async fn run(self) -> io::Result<()> {
        self.state.events.emit(&CoordinatorListening { addr: self.local_addr });
        tokio::select! {
            result = self.server => result,
            never = count_repeats_each_minute(&self.state.events) => match never {},
            never = expire_sessions(&self.state) => match never {},
        }
    }
}

impl CoordinatorHandle {
    /// Stops: refuses agents and requests with 503, announces to the agents that their connections will be closed, waits some
    /// seconds for running jobs, closes the agents' connections with 1001 `drain:deploy`, and returns when all connections are
    /// closed.
    pub async fn stop(&self) {
        let events = &self.state.events;
        events.emit(&CoordinatorStopping { in_flight: self.state.gauges().in_flight });
        dismiss_agents(&self.state).await;
        self.server.stop(true).await;
        events.count_repeats();
        events.emit(&CoordinatorStopped);
    }
}

/// Refuses agents and requests from now on, announces to the agents that their connections will be closed, waits for running jobs
/// as long as a stop does, and closes the connections.
pub(crate) async fn dismiss_agents(state: &CoordinatorState) {
    let grace = state.config.stop_grace;
    state.begin_stop();
    let links = state.links();
    let deadline = grace.clamp(*EXTENSION_TIMES.start(), *EXTENSION_TIMES.end());
    for link in links {
        link.hand_over(deadline);
    }
    // New connections are still accepted, so that `/healthz` and the other paths can say that the coordinator stops.
    let drained = tokio::time::timeout(grace, state.drain()).await;
    if drained.is_err() {
        state.events.emit(&JobsCutShort { in_flight: state.responding() });
    }
    let links = state.links();
    for link in links {
        link.close(CloseReason::Deploy);
    }
}
