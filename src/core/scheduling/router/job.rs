//! A job as the router knows it: what it decides from, and nothing that does IO.

use std::time::Instant;

use crate::core::scheduling::affinity::PrefixHashes;
use crate::core::scheduling::breaker::BreakerToken;
use crate::core::scheduling::budget::Reservation;
use crate::core::scheduling::estimate::{Estimate, Outline};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{BackendId, JobId, ModelId};
use crate::messages::jobs::{Evidence, Failure};

/// What the driver keeps with a job: the request, and the handle that cancels the work on drop. The router hands it back,
/// and asks it two questions.
pub trait Work {
    /// What the request says of its tokens and its conversation. Asked only where something is decided from it.
    fn outline(&self) -> Option<Outline<'_>>;

    /// How far a backend has come with it.
    fn progress(&self) -> Progress;

    /// When the first byte of its answer was produced.
    fn first_byte(&self) -> Option<Instant> {
        None
    }
}

/// How far a backend has come with a job's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No response head yet.
    NotBegun,
    /// So many bytes of a stream were relayed.
    Streamed(u64),
    /// It has begun, and how far it has come cannot be told.
    Begun,
}

/// A job that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// The coordinator's id for it.
    pub id: JobId,
    /// The model asked for.
    pub model: ModelId,
    /// The API path asked for.
    pub endpoint: Endpoint,
    /// When it was received.
    pub received: Instant,
    /// When its deadline passes.
    pub deadline: Instant,
}

/// What the ledger keeps of a job.
#[derive(Debug)]
pub(super) struct JobState<W> {
    pub(super) work: W,
    pub(super) model: ModelId,
    pub(super) endpoint: Endpoint,
    pub(super) received: Instant,
    pub(super) deadline: Instant,
    /// When its timer is set to: the end of its wait for a first slot, and from then on its deadline.
    pub(super) timer: Instant,
    pub(super) phase: Phase,
    pub(super) estimate: Estimate,
    pub(super) prefixes: PrefixHashes,
    /// For the verdict on the backend that works it.
    pub(super) token: Option<BreakerToken>,
    /// Backends that have failed it.
    pub(super) tried: Vec<BackendId>,
    /// Those of them of which the job's end will show whether they were at fault.
    pub(super) suspects: Vec<Suspect>,
    /// Its part of the token budget.
    pub(super) reservation: Option<Reservation>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for its first slot.
    Waiting,
    /// A worker has it.
    Running,
    /// A backend has failed it, and it waits for a slot on another one.
    Retrying(Failure),
    /// It was told to end, and leaves as its last frame is written.
    Ending,
}

/// A backend that failed a job, which may have been the job's doing.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) backend: BackendId,
    pub(super) token: Option<BreakerToken>,
    pub(super) evidence: Evidence,
}

impl<W> JobState<W> {
    /// Whether more than one backend broke under the job: then the job is what breaks them.
    pub(super) fn breaks_backends(&self) -> bool {
        self.suspects.iter().filter(|suspect| suspect.evidence == Evidence::Crash).count() > 1
    }
}
