//! Events of the server: its start and its stop.

use std::io;
use std::net::SocketAddr;

use log::Level;

use super::TARGET;
use crate::coordinator::agents::peer::Peer;
use crate::coordinator::metrics::Metrics;
use crate::telemetry::Fields;
use crate::telemetry::events::{Describe, EventKind};

/// The API has no key.
pub(crate) struct ApiWithoutKey {
    /// The configured address.
    pub(crate) listen: SocketAddr,
}

impl Describe<Metrics> for ApiWithoutKey {
    fn kind(&self) -> EventKind {
        EventKind::new(
            Level::Warn,
            TARGET,
            "the API has no key: every user of this machine can use it, and so can anyone who reaches this port through a proxy \
 or a tunnel that adds no forwarding headers; set OUTPOST_COORDINATOR_API_KEY",
        )
    }

    fn fields(&self) -> Fields {
        Fields::new().text("listen", self.listen)
    }
}

/// The coordinator serves agents and clients.
pub(crate) struct CoordinatorListening {
    /// Where.
    pub(crate) addr: SocketAddr,
}

impl Describe<Metrics> for CoordinatorListening {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "coordinator listening")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("addr", self.addr)
    }
}

/// The kernel refused an option of a socket. The connection is served without it.
pub(crate) struct SocketOptionRefused {
    /// The system's error.
    pub(crate) cause: io::Error,
}

impl Describe<Metrics> for SocketOptionRefused {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Debug, TARGET, "socket option refused").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("cause", &self.cause)
    }
}

/// The peer of a connection, an agent or a client, read nothing for too long. The connection was ended.
pub(crate) struct PeerTakesNothing {
    /// Its address.
    pub(crate) peer: Peer,
}

impl Describe<Metrics> for PeerTakesNothing {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "connection ended: its peer reads nothing").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("peer", self.peer)
    }
}

/// The coordinator was ordered to stop, and waits for running jobs.
pub(crate) struct CoordinatorStopping {
    /// Jobs that still run.
    pub(crate) in_flight: usize,
}

impl Describe<Metrics> for CoordinatorStopping {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "coordinator stopping")
    }

    fn fields(&self) -> Fields {
        Fields::new().number("in_flight", self.in_flight)
    }
}

/// Jobs that did not finish in time are cancelled.
pub(crate) struct JobsCutShort {
    /// How many.
    pub(crate) in_flight: usize,
}

impl Describe<Metrics> for JobsCutShort {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "running jobs ended early")
    }

    fn fields(&self) -> Fields {
        Fields::new().number("in_flight", self.in_flight)
    }
}

/// All connections are closed.
pub(crate) struct CoordinatorStopped;

impl Describe<Metrics> for CoordinatorStopped {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "coordinator stopped")
    }

    fn fields(&self) -> Fields {
        Fields::new()
    }
}
