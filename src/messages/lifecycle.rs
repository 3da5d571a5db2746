//! How connections and actors end, and what follows.

use serde::Serialize;

use super::ids::{BackendId, Generation};

/// A child of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Child {
    /// The connection of one generation.
    Connection(Generation),
    /// The heartbeat of one connection.
    Heartbeat(Generation),
    /// Probes the backends.
    Discovery,
    /// Admits and routes jobs.
    Router,
    /// The workers of one backend.
    Pool(BackendId),
}

/// Stop: take no new job, let the running ones finish, then leave. A second one ends what still runs.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Drain;

/// What a steady connection ended with, by what the peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseKind {
    /// Close 1001 with reason `drain:deploy`.
    DrainDeploy,
    /// Close 1001 with reason `drain:operator`.
    DrainOperator,
    /// Close 1001 with another reason or none, or a close frame without a code.
    GracefulOther,
    /// Any other close code, an end of stream, a read error, silence.
    Unexpected,
}

/// Stop now.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// Supervisor to router: that connection is over, and so are its jobs.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ConnectionDown {
    pub(crate) generation: Generation,
}

/// Supervisor to router: admit nothing more and say when nothing runs.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct StopAdmitting;

/// Supervisor to router: end what still runs.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct EndJobs;

/// Router to supervisor while draining: so many jobs still run.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct StillRunning {
    pub(crate) in_flight: usize,
}
