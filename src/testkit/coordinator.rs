//! The scripted coordinator: takes the agent's connections and decides which dials fail.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::coordinator_listener::accept_all;
use super::faults::Faults;
use super::link::CoordinatorLink;
use super::wire::{DialFault, MemoryConnector, Network, Opened, TARGET};
use super::within::within;
use crate::messages::wire::Extensions;
use crate::transport::websocket::link::Connector;

/// The other end of the agent's connections.
pub struct ScriptedCoordinator {
    network: Rc<Network>,
    arrivals: mpsc::UnboundedReceiver<Opened>,
    pub(super) faults: Faults,
    offer: Cell<Extensions>,
    /// Where it listens over TCP.
    addr: Option<SocketAddr>,
    /// Takes connections over TCP. Ends with the coordinator.
    accepting: JoinSet<()>,
}

impl ScriptedCoordinator {
    /// A coordinator, and the connector that reaches it. A direction of a connection holds `capacity` bytes.
    pub fn new(capacity: usize) -> (Self, Rc<dyn Connector>) {
        let (network, arrivals) = Network::new(capacity);
        let (faults, offer) = (Faults::default(), Cell::default());
        (
            Self { network: Rc::clone(&network), arrivals, faults, offer, addr: None, accepting: JoinSet::new() },
            Rc::new(MemoryConnector(network)),
        )
    }

    /// A coordinator that takes connections over TCP on a free port of this host.
    ///
    /// # Errors
    /// If there is no such port.
    pub async fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        // Nothing dials in memory.
        let (mut coordinator, _) = Self::new(0);
        coordinator.addr = Some(listener.local_addr()?);
        coordinator.accepting.spawn_local(accept_all(listener, Rc::clone(&coordinator.network)));
        Ok(coordinator)
    }

    /// Where it listens. Panics if it is one in memory.
    pub fn addr(&self) -> SocketAddr {
        let Some(addr) = self.addr else { panic!("the coordinator does not listen: make it with `listen`") };
        addr
    }

    /// Its URL, if it listens.
    pub fn url(&self) -> String {
        format!("ws://{}/agent", self.addr())
    }

    /// What the challenges of later connections offer. Without it, nothing: a coordinator that knows no extensions.
    pub fn offer(&self, extensions: Extensions) {
        self.offer.set(extensions);
    }

    /// The next connection that the agent opens.
    pub async fn next_connection(&mut self) -> CoordinatorLink {
        let opened = within("a connection from the agent", self.arrivals.recv()).await;
        let Some(opened) = opened else { panic!("the agent's connector is gone") };
        let name = self.addr.map_or_else(|| TARGET.to_owned(), |addr| addr.to_string());
        CoordinatorLink::open(opened, self.faults.clone(), self.offer.get(), name)
    }

    /// The next connection, with its handshake done.
    pub async fn welcome(&mut self) -> CoordinatorLink {
        let mut link = self.next_connection().await;
        link.welcome().await;
        link
    }

    /// The next connection that offers this model, with its handshake done.
    pub async fn serving(&mut self, model: &str) -> CoordinatorLink {
        let mut link = self.welcome().await;
        link.until_offered(model).await;
        link
    }

    /// Whether the agent has opened a connection that was not taken yet.
    pub fn is_called(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// The next dials go wrong, in this order.
    pub fn fail_dials(&self, faults: impl IntoIterator<Item = DialFault>) {
        self.network.faults.borrow_mut().extend(faults);
    }

    /// Every dial without a fault of its own goes wrong like this, until it is taken back.
    pub fn set_outage(&self, fault: Option<DialFault>) {
        self.network.outage.replace(fault);
    }

    /// Waits until the agents have dialled so often.
    pub async fn dialled(&self, times: usize) {
        let mut dials = self.network.dials.subscribe();
        // The sender lives as long as the coordinator.
        let _ = within(format_args!("{times} dials"), dials.wait_for(|dials| dials.len() >= times)).await;
    }

    /// When the agents have dialled.
    pub fn dials(&self) -> Vec<Instant> {
        self.network.dials.borrow().clone()
    }
}
