//! A job as the router knows it: the data for its decisions, and nothing that does IO.

use std::time::Instant;

use crate::core::scheduling::affinity::PrefixHashes;
use crate::core::scheduling::breaker::BreakerToken;
use crate::core::scheduling::budget::Reservation;
use crate::core::scheduling::estimate::{Estimate, Outline};
use crate::core::session::delivery::Delivery;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{BackendId, JobId, ModelId};
use crate::messages::jobs::{Evidence, Failure};
use crate::messages::prices::Price;

/// The driver's part of a job: the request, and the handle that cancels the work on drop. The router returns it at the end
/// of the job.
pub(crate) trait Work {
    /// The parts of the request that determine its tokens and its conversation. Called only if a decision depends on it.
    fn outline(&self) -> Option<Outline<'_>>;

    /// How far a backend has come with the response.
    fn progress(&self) -> Progress;

    /// How far its response has come on its way to the coordinator.
    fn delivery(&self) -> Delivery;

    /// The coordinator has taken over all bytes before this offset.
    fn acknowledge(&mut self, offset: u64);

    /// When the first byte of its answer was produced.
    fn first_byte(&self) -> Option<Instant> {
        None
    }

    /// The events of a streamed response so far: about one a token.
    fn events(&self) -> u64 {
        0
    }
}

/// How far a backend has come with a job's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No response head yet.
    NotBegun,
    /// So many bytes of a stream were relayed.
    Streamed(u64),
    /// It has begun, and the rest is unknown.
    Begun,
}

/// A new job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewJob {
    /// The coordinator's id for it.
    pub id: JobId,
    /// The requested model.
    pub model: ModelId,
    /// The requested API path.
    pub endpoint: Endpoint,
    /// When it was received.
    pub received: Instant,
    /// When its deadline passes.
    pub deadline: Instant,
}

/// The ledger's state of a job.
#[derive(Clone, Debug)]
pub(super) struct JobState<W> {
    pub(super) work: W,
    pub(super) model: ModelId,
    pub(super) endpoint: Endpoint,
    /// The price of the offer that it came on. `None`: the model is not offered.
    pub(super) price: Option<Price>,
    pub(super) received: Instant,
    pub(super) deadline: Instant,
    /// When its timer fires: at the end of its wait for a first slot, after that at its deadline.
    pub(super) timer: Instant,
    pub(super) phase: Phase,
    pub(super) estimate: Estimate,
    pub(super) prefixes: PrefixHashes,
    /// Reports the outcome to the breaker of the backend that has the job.
    pub(super) token: Option<BreakerToken>,
    /// Backends that have failed it.
    pub(super) tried: Vec<BackendId>,
    /// Those of them for which the job's end will show whether they were at fault.
    pub(super) suspects: Vec<Suspect>,
    /// Its part of the token budget.
    pub(super) reservation: Option<Reservation>,
}

/// The phase of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for its first slot.
    Waiting,
    /// A worker has it.
    Running,
    /// A backend has failed it, and it waits for a slot on another one.
    Retrying(Failure),
    /// It is being ended, and leaves the ledger when its last frame is written.
    Ending,
}

/// A backend that failed a job. The job may have been the cause.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) backend: BackendId,
    pub(super) token: Option<BreakerToken>,
    pub(super) evidence: Evidence,
}

impl<W> JobState<W> {
    /// Whether it crashed more than one backend: then the job is the cause.
    pub(super) fn breaks_backends(&self) -> bool {
        self.suspects.iter().filter(|suspect| suspect.evidence == Evidence::Crash).count() > 1
    }
}
