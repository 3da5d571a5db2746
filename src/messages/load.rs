//! Messages about load and probes.

use std::time::Instant;

use super::ids::BackendId;
use super::wire::Heartbeat;

/// Heartbeat to router: request the figures of a heartbeat frame.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "Heartbeat")]
pub(crate) struct SampleLoad;

/// Discovery, through the supervisor, to router: the active requests of a server, of all its clients.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct LoadSeen {
    pub(crate) backend: BackendId,
    pub(crate) active_requests: u32,
    /// When the request for it was sent: the figure is not older.
    pub(crate) asked: Instant,
}

/// Router, through the supervisor, to discovery: request the load of this backend.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct AskLoad {
    pub(crate) backend: BackendId,
}

/// Router, through the supervisor, to discovery: probe this backend now.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct RunDiscovery {
    pub(crate) backend: BackendId,
}
