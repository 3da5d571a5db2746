//! The network between agents and coordinators: a balancer in front of two coordinators, and connections with delay that go
//! silent or are cut, where either end may notice first.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use outpost::testkit::{Connector, DialError, MemoryCoordinator, Upgraded};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IteratorRandom;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Bytes in each buffer on the way.
const BUFFER: usize = 16 << 10;

/// The coordinators behind one address.
pub(crate) struct Balancer {
    pub(crate) coordinators: RefCell<[Option<MemoryCoordinator>; 2]>,
    /// Those that take new connections.
    pub(crate) is_ready: RefCell<[bool; 2]>,
    pub(crate) chance: RefCell<Xoshiro256PlusPlus>,
}

impl Balancer {
    /// The number of a coordinator that takes connections, and of which this holds.
    fn pick(&self, wanted: impl Fn(&MemoryCoordinator) -> bool) -> Option<usize> {
        let (coordinators, is_ready) = (self.coordinators.borrow(), self.is_ready.borrow());
        let suits = |number: &usize| is_ready[*number] && coordinators[*number].as_ref().is_some_and(&wanted);
        (0..coordinators.len()).filter(suits).choose(&mut *self.chance.borrow_mut())
    }

    fn coordinator(&self, number: usize) -> Option<MemoryCoordinator> {
        self.coordinators.borrow()[number].clone()
    }

    /// One that has models, for a client.
    pub(crate) fn for_client(&self) -> Option<MemoryCoordinator> {
        self.pick(|coordinator| coordinator.models() > 0).and_then(|number| self.coordinator(number))
    }

    /// One for an agent: the one that it had last, as long as that takes connections. Only there it has its session.
    fn for_agent(&self, last: &Cell<Option<usize>>) -> Option<MemoryCoordinator> {
        let kept = last.get().filter(|number| self.is_ready.borrow()[*number]);
        last.set(kept.or_else(|| self.pick(|_| true)));
        last.get().and_then(|number| self.coordinator(number))
    }
}

/// How an agent reaches its coordinators.
pub(crate) struct Uplink {
    balancer: Rc<Balancer>,
    /// The coordinator that it had last.
    last: Cell<Option<usize>>,
    /// The time that bytes are on their way.
    pub(crate) delay: Cell<Duration>,
    /// No dial succeeds before.
    pub(crate) out_until: Cell<Option<Instant>>,
    links: RefCell<Vec<Weak<Link>>>,
}

/// A connection.
pub(crate) struct Link(watch::Sender<LinkState>);

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Flows,
    /// Nothing gets through, and neither end notices.
    Silent,
    /// The agent has noticed its end.
    AgentGone,
    /// The coordinator has.
    CoordinatorGone,
    Cut,
}

impl LinkState {
    fn is_end(self) -> bool {
        !matches!(self, Self::Flows | Self::Silent)
    }
}

impl Link {
    pub(crate) fn set(&self, state: LinkState) {
        // What is cut stays cut.
        self.0.send_if_modified(|now| {
            let changes = *now != LinkState::Cut && (state.is_end() || !now.is_end());
            if changes {
                *now = state;
            }
            changes
        });
    }
}

impl Uplink {
    pub(crate) fn new(balancer: &Rc<Balancer>) -> Rc<Self> {
        let (balancer, delay, out_until) = (Rc::clone(balancer), Cell::new(Duration::ZERO), Cell::new(None));
        Rc::new(Self { balancer, last: Cell::default(), delay, out_until, links: RefCell::default() })
    }

    /// The agent's connections that are not cut, the newest last.
    pub(crate) fn links(&self) -> Vec<Rc<Link>> {
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.strong_count() > 0);
        let links = links.iter().filter_map(Weak::upgrade);
        links.filter(|link| !link.0.borrow().is_end()).collect()
    }

    /// Carries one direction of a connection until it ends.
    async fn carry<R, W>(self: Rc<Self>, mut from: R, mut to: W, link: Rc<Link>, is_up: bool)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (mut ends, mut states) = (link.0.subscribe(), link.0.subscribe());
        let transfer = async {
            let mut buffer = vec![0; BUFFER];
            loop {
                flows(&mut states).await?;
                let read = tokio::select! {
                    biased;
                    _ = states.changed() => continue,
                    read = from.read(&mut buffer) => read?,
                };
                if read == 0 {
                    return to.shutdown().await;
                }
                let delay = self.delay.get();
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                flows(&mut states).await?;
                to.write_all(&buffer[..read]).await?;
            }
        };
        let end = tokio::select! {
            biased;
            end = ends.wait_for(|state| state.is_end()) => end.map_or(LinkState::Cut, |end| *end),
            // An end that is gone is noticed by the other one, as both directions are dropped.
            _ = transfer => return,
        };
        match (end, is_up) {
            (LinkState::AgentGone, true) | (LinkState::CoordinatorGone, false) => drop(from),
            (LinkState::AgentGone, false) | (LinkState::CoordinatorGone, true) => drop(to),
            _ => return,
        }
        let _ = ends.wait_for(|state| *state == LinkState::Cut).await;
    }
}

async fn flows(states: &mut watch::Receiver<LinkState>) -> io::Result<()> {
    let flows = states.wait_for(|state| *state == LinkState::Flows).await;
    flows.map(drop).map_err(|_| io::ErrorKind::ConnectionReset.into())
}

/// The way of an agent to its coordinators.
pub(crate) struct Dials(pub(crate) Rc<Uplink>);

impl Connector for Dials {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>> {
        let uplink = Rc::clone(&self.0);
        Box::pin(async move {
            sleep(uplink.delay.get() * 3).await;
            if uplink.out_until.get().is_some_and(|until| Instant::now() < until) {
                sleep(Duration::from_secs(10)).await;
                return Err(DialError::TimedOut);
            }
            let refused = DialError::Connect(io::ErrorKind::ConnectionRefused);
            let coordinator = uplink.balancer.for_agent(&uplink.last).ok_or(refused)?;
            let there = coordinator.connect().await?;
            let (near, far) = duplex(BUFFER);
            let link = Rc::new(Link(watch::Sender::new(LinkState::Flows)));
            uplink.links.borrow_mut().push(Rc::downgrade(&link));
            let (from_agent, to_agent) = split(far);
            let (from_coordinator, to_coordinator) = split(there.stream);
            actix_rt::spawn(Rc::clone(&uplink).carry(from_agent, to_coordinator, Rc::clone(&link), true));
            actix_rt::spawn(Rc::clone(&uplink).carry(from_coordinator, to_agent, link, false));
            Ok(Upgraded { stream: Box::new(near), leftover: BytesMut::new() })
        })
    }

    fn target(&self) -> &str {
        "coordinator.test:443"
    }
}
