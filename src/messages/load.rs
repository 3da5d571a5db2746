//! Load and probes: what the router asks of discovery, and the heartbeat of the router.

use std::time::Instant;

use super::ids::BackendId;
use super::wire::Heartbeat;

/// Heartbeat to router: your figures, please.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "Heartbeat")]
pub(crate) struct SampleLoad;

/// Discovery by way of the supervisor to router: how many requests a server works now, whoever's they are.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct LoadSeen {
    pub(crate) backend: BackendId,
    pub(crate) busy: u32,
    /// When it was asked: the answer is of some moment since.
    pub(crate) asked: Instant,
}

/// Router by way of the supervisor to discovery: ask that backend for its load.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct AskLoad {
    pub(crate) backend: BackendId,
}

/// Router by way of the supervisor to discovery: look at that backend now.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct RunDiscovery {
    pub(crate) backend: BackendId,
}
