//! Messages about the start and end of connections and of the process.

use std::time::Duration;

use serde::Serialize;

use super::ids::{BackendId, Generation};
use super::wire::ResumeRequest;

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

/// Stop: accept no new job, let the running ones finish, then end the process. A second one ends the running jobs.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Drain;

/// How the peer ended an authenticated connection.
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

/// To any actor: stop now.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// Supervisor to router: this connection has ended. Its jobs end with it, unless its session outlives it.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ConnectionDown {
    pub(crate) generation: Generation,
}

/// Supervisor to router: accept no more jobs, and report with [`StillRunning`] until none is left.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct StopAdmitting;

/// To the supervisor, and from it to the router: offer nothing and accept no job, or do so again. Running jobs go on.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct SetPaused(pub(crate) bool);

/// Supervisor to router: end the running jobs.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct EndJobs;

/// Router to supervisor during a drain: how many jobs still run or are not acknowledged.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct StillRunning {
    pub(crate) in_flight: usize,
}

/// Connection to router: its handshake has begun. The answer is the session that it may go on with.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "Option<ResumeRequest>")]
pub(crate) struct OfferSession {
    pub(crate) generation: Generation,
}

/// Connection to supervisor: the coordinator will close this connection, at the latest when `deadline` has passed.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct HandoverAnnounced {
    pub(crate) generation: Generation,
    pub(crate) deadline: Duration,
}
