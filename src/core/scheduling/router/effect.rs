//! What the router wants done, and why it refuses.

use std::time::{Duration, Instant};

use crate::core::scheduling::ledger::Refused;
use crate::core::scheduling::route::Service;
use crate::core::scheduling::selection::Unrouted;
use crate::messages::cause::Cause;
use crate::messages::ids::{BackendId, Generation, JobId, ModelId};
use crate::messages::jobs::{Outcome, Ticket};
use crate::messages::wire::{Capabilities, ErrorCode};

/// Something for the driver to do. Effects are carried out in order.
#[derive(Debug)]
pub enum Effect<W> {
    /// Give the job to a worker of that backend.
    Dispatch {
        /// The job.
        ticket: Ticket,
        /// The backend where it has its slot.
        backend: BackendId,
        /// How the backend serves the job's endpoint.
        service: Service,
        /// Whether another backend could take the job if this one fails it, so that a copy of its request is kept.
        may_retry: bool,
    },
    /// Stop the job's work, if any, and send its `job_error`, unless its end is on its way already. Once the frame is
    /// written the driver reports the end.
    Fail {
        /// The job.
        ticket: Ticket,
        /// What to say.
        cause: FailCause,
    },
    /// Nothing more is sent of this job: its work is to be dropped, which cancels it.
    Cancel {
        /// The job's work.
        work: W,
    },
    /// The job has ended by itself: its last frames are sent.
    Release {
        /// The job's work.
        work: W,
    },
    /// Probe that backend now.
    Probe(BackendId),
    /// Ask that backend for its load.
    AskLoad(BackendId),
    /// Send what is on offer.
    Announce {
        /// The connection.
        generation: Generation,
        /// What to send.
        capabilities: Capabilities,
    },
    /// While draining: so many jobs have not ended.
    StillRunning(usize),
    /// Call [`Router::tick`](super::Router::tick) then. It replaces an earlier request for a later time.
    WakeAt(Instant),
    /// Something to be logged and counted.
    Event(RouterEvent),
}

/// What happened to a job or a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// A job was accepted: it will have exactly one end.
    Accepted {
        /// The job.
        job: JobId,
        /// Its model.
        model: ModelId,
    },
    /// A job has a slot.
    Started {
        /// The job.
        job: JobId,
        /// Where.
        backend: BackendId,
    },
    /// A backend failed a job before the first byte of its answer was sent, and another one has it now.
    Moved {
        /// The job.
        job: JobId,
        /// The backend that failed it.
        from: BackendId,
        /// The next one.
        to: BackendId,
    },
    /// An accepted job has ended.
    Ended {
        /// The job.
        job: JobId,
        /// Its model.
        model: ModelId,
        /// Where it had its slot, if it had one.
        backend: Option<BackendId>,
        /// How.
        outcome: Outcome,
        /// Why it was not done.
        cause: Option<Cause>,
        /// From receipt to the first byte of the answer.
        first_byte: Option<Duration>,
        /// From receipt to the end.
        duration: Duration,
    },
    /// A backend failed so many jobs that it gets none for a while.
    BreakerOpened {
        /// The backend.
        backend: BackendId,
    },
}

/// Why a job that was accepted is ended from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailCause {
    /// Its last backend failed it, and no other one takes it: what that backend reported is sent.
    Backend,
    /// It waited for a slot in vain.
    Refused(Refusal),
    /// Its deadline passed.
    Deadline,
    /// The agent is stopping.
    Stopping,
    /// The actors that worked it are gone.
    WorkerLost,
}

/// What became of a job that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It runs, or waits for a slot: its end will be reported.
    Accepted,
    /// A job of its id has not ended: the frame is skipped.
    AlreadyRuns,
    /// It is of a connection that is not the current one: nothing is sent.
    Stale,
    /// It is to be answered with `job_error`.
    Refused(Refusal),
}

/// Why a job is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It can be named and not be done.
    #[error("{0}")]
    Malformed(&'static str),
    /// It came before the first capabilities.
    #[error("no model has been offered yet")]
    NotOffered,
    /// The agent takes no more jobs.
    #[error("the agent is stopping")]
    Stopping,
    /// The agent holds as many jobs as it may.
    #[error("every slot is taken")]
    AgentFull,
    /// The model is not on offer.
    #[error("no healthy backend serves this model")]
    NotServed,
    /// No backend of the model takes it.
    #[error(transparent)]
    NoSlot(#[from] Unrouted),
    /// There is no room for it in the token budget.
    #[error("the token budget of this minute is spent")]
    BudgetSpent,
}

impl Refusal {
    /// The word in logs and metrics.
    pub fn cause(self) -> Cause {
        match self {
            Self::Malformed(_) => Cause::Malformed,
            Self::NotOffered => Cause::NotOffered,
            Self::Stopping => Cause::Stopping,
            Self::AgentFull => Cause::AgentFull,
            Self::NotServed => Cause::ModelNotServed,
            Self::BudgetSpent => Cause::BudgetSpent,
            Self::NoSlot(Unrouted::NoneServes) => Cause::EndpointNotServed,
            Self::NoSlot(Unrouted::AllTried) => Cause::BackendsFailed,
            Self::NoSlot(Unrouted::NoneReady) => Cause::BackendsNotReady,
            Self::NoSlot(Unrouted::AllBroken) => Cause::BreakersOpen,
            Self::NoSlot(Unrouted::AllFull) => Cause::BackendsFull,
        }
    }

    /// The code on the wire.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Malformed(_) | Self::NoSlot(Unrouted::NoneServes) => ErrorCode::Internal,
            Self::NotOffered
            | Self::NotServed
            | Self::NoSlot(Unrouted::NoneReady | Unrouted::AllTried | Unrouted::AllBroken) => ErrorCode::ModelNotLoaded,
            Self::Stopping | Self::AgentFull | Self::BudgetSpent | Self::NoSlot(Unrouted::AllFull) => {
                ErrorCode::OutOfCapacity
            }
        }
    }
}

impl From<Refused> for Submitted {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Duplicate => Self::AlreadyRuns,
            Refused::AgentFull => Self::Refused(Refusal::AgentFull),
        }
    }
}
