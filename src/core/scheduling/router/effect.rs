//! The router's effects, events and refusals.

use std::time::{Duration, Instant};

use crate::core::scheduling::ledger::Refused;
use crate::core::scheduling::route::Service;
use crate::core::scheduling::selection::Unrouted;
use crate::messages::cause::Cause;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{BackendId, CoordinatorId, Generation, JobId, ModelId};
use crate::messages::jobs::{Outcome, Ticket};
use crate::messages::prices::Price;
use crate::messages::wire::{Capabilities, ErrorCode};

/// An instruction to the driver. Effects are carried out in order.
#[derive(Clone, Debug)]
pub(crate) enum Effect<W> {
    /// Give the job to a worker of that backend.
    Dispatch {
        /// The job.
        ticket: Ticket,
        /// The backend where it has its slot.
        backend: BackendId,
        /// How the backend serves the job's endpoint.
        service: Service,
        /// Whether another backend could retry the job, so that a copy of its request is kept.
        may_retry: bool,
    },
    /// Stop the job's work, if any, and send its `job_error`, unless its terminal frame is queued already. The driver
    /// reports the end when the frame is written.
    Fail {
        /// The job.
        ticket: Ticket,
        /// What the error reports.
        cause: FailCause,
    },
    /// Drop the job's work, which cancels it. Nothing more of the job is sent.
    Cancel {
        /// The job's work.
        work: W,
    },
    /// The job has ended, and its last frames are written: release its work without a cancel.
    Release {
        /// The job's work.
        work: W,
    },
    /// Probe that backend now.
    Probe(BackendId),
    /// Request the load of that backend.
    AskLoad(BackendId),
    /// Send the capabilities.
    Announce {
        /// The connection.
        generation: Generation,
        /// What to send.
        capabilities: Capabilities,
    },
    /// Let the frames of a job go to that connection from now on, from that byte of its response.
    Attach {
        /// The job.
        ticket: Ticket,
        /// The connection.
        generation: Generation,
        /// Where the response goes on.
        offset: u64,
    },
    /// Close that connection.
    Close {
        /// The connection.
        generation: Generation,
        /// At once, or behind what waits to be written.
        now: bool,
    },
    /// Announce the drain.
    AnnounceDrain {
        /// The connection.
        generation: Generation,
        /// Jobs that have not ended.
        in_flight: usize,
    },
    /// While draining: the number of jobs that have not ended or are not acknowledged.
    StillRunning(usize),
    /// Call [`Router::tick`](super::Router::tick) at that time. It replaces an earlier request for a later time.
    WakeAt(Instant),
    /// Log and count an event.
    Event(RouterEvent),
}

/// An event of a job or a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// A job was accepted: it will have exactly one end.
    Accepted {
        /// The job.
        job: JobId,
        /// Its model.
        model: ModelId,
    },
    /// A job got a slot.
    Started {
        /// The job.
        job: JobId,
        /// Its backend.
        backend: BackendId,
    },
    /// A job failed on a backend before the first response byte and was given to another one.
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
        /// Whose job it was.
        coordinator: CoordinatorId,
        /// Its model.
        model: ModelId,
        /// The requested API path.
        endpoint: Endpoint,
        /// Where it had its slot, if it had one.
        backend: Option<BackendId>,
        /// What the model was offered for as the job came.
        price: Option<Price>,
        /// How it ended.
        outcome: Outcome,
        /// Why it was not done.
        cause: Option<Cause>,
        /// From receipt to the first byte of the answer.
        first_byte: Option<Duration>,
        /// From receipt to the end.
        duration: Duration,
    },
    /// The backend's circuit breaker opened.
    BreakerOpened {
        /// The backend.
        backend: BackendId,
    },
}

/// Why the router ends an accepted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailCause {
    /// Its last backend failed it, and no other one takes it. The error of that backend is sent.
    Backend,
    /// It waited for a slot, and got none.
    Refused(Refusal),
    /// Its deadline passed.
    Deadline,
    /// The agent is stopping.
    Stopping,
    /// Its worker or pool was lost.
    WorkerLost,
    /// The coordinator wants bytes of it that the agent does not have. Of an ended job this replaces the terminal frame.
    NotKept,
}

/// The result of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// It is running, or waits for a slot. Its end will be reported.
    Accepted,
    /// A job with its id has not ended: the frame is skipped.
    AlreadyRuns,
    /// A job with its id has ended in this session: the frame is skipped.
    AlreadyEnded,
    /// It is from a connection that is not the current one: nothing is sent.
    Stale,
    /// It is answered with `job_error`.
    Refused(Refusal),
}

/// Why a job is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has a readable id, and an error in another field.
    #[error("{0}")]
    Malformed(&'static str),
    /// It arrived before the first capabilities were sent.
    #[error("no model has been offered yet")]
    NotOffered,
    /// The agent is shutting down.
    #[error("the agent is stopping")]
    Stopping,
    /// The operator has paused the agent.
    #[error("the agent is paused by its operator")]
    Paused,
    /// The agent holds as many jobs as it may.
    #[error("every slot of the agent is taken")]
    AgentFull,
    /// The model is not offered.
    #[error("no healthy backend serves this model")]
    NotServed,
    /// No backend of the model takes it.
    #[error(transparent)]
    NoSlot(#[from] Unrouted),
    /// It arrived on a connection that a newer one has replaced.
    #[error("a newer connection takes the jobs")]
    OldConnection,
    /// The token budget has no room for it.
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
            Self::Paused => Cause::Paused,
            Self::AgentFull => Cause::AgentFull,
            Self::NotServed => Cause::ModelNotServed,
            Self::OldConnection => Cause::OldConnection,
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
            Self::Stopping
            | Self::Paused
            | Self::AgentFull
            | Self::OldConnection
            | Self::BudgetSpent
            | Self::NoSlot(Unrouted::AllFull) => ErrorCode::OutOfCapacity,
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
