//! Causes in events: each is an enum that is made where the cause is known. Its text is made here, for the log and the
//! snapshot.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::session::backoff::EndClass;
use crate::core::session::close::{LinkEnd, classify};
use crate::core::session::frames::FrameError;
use crate::core::session::handshake::HandshakeFailure;
use crate::identity::IdentityError;
use crate::messages::discovery::ProbeError;
use crate::messages::ids::{BackendId, JobId};
use crate::messages::lifecycle::CloseKind;
use crate::transport::stream::DialError;

/// Why a connection failed before `auth_ok`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConnectFailure {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection ended.
    #[error("during the handshake: {0}")]
    Link(#[from] LinkEnd),
    /// The coordinator refused the agent, or violated the protocol.
    #[error(transparent)]
    Handshake(#[from] HandshakeFailure),
    /// A step took too long.
    #[error("no {0} in time")]
    TimedOut(Awaited),
    /// The agent itself gave the connection up.
    #[error(transparent)]
    Internal(#[from] InternalEnd),
}

impl ConnectFailure {
    /// How it counts for the next connection.
    pub fn class(&self) -> EndClass {
        match self {
            Self::Dial(DialError::Busy { retry_after: Some(asked), .. }) => EndClass::FailureWithWait(*asked),
            Self::Dial(_) | Self::Link(_) | Self::Handshake(_) | Self::TimedOut(_) | Self::Internal(_) => {
                EndClass::Failure
            }
        }
    }
}

/// What a step of the handshake waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The frame `auth_challenge`.
    Challenge,
    /// The frame `auth_ok`.
    Verdict,
    /// That a frame of the agent can be written.
    Room,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Challenge => "auth_challenge",
            Self::Verdict => "auth_ok",
            Self::Room => "room for an answer",
        })
    }
}

/// Why an established connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectCause {
    /// The peer or the network ended it.
    #[error(transparent)]
    Link(#[from] LinkEnd),
    /// The agent closed it at the end of its shutdown.
    #[error("closed by the agent")]
    ClosedByAgent,
    /// The agent gave it up.
    #[error(transparent)]
    Internal(#[from] InternalEnd),
}

impl DisconnectCause {
    /// The class of the end.
    pub fn kind(&self) -> CloseKind {
        match self {
            Self::Link(end) => classify(end),
            Self::ClosedByAgent => CloseKind::GracefulOther,
            Self::Internal(_) => CloseKind::Unexpected,
        }
    }
}

/// Why the agent gave a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InternalEnd {
    /// The router was replaced, and its jobs are lost.
    #[error("the router was replaced")]
    RouterReplaced,
    /// The connection's actor panicked.
    #[error("the connection's actor ended")]
    ActorEnded,
}

/// Why a backend is not healthy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendDownCause {
    /// The probe failed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Another backend answers in its place.
    #[error("{0} answers there now")]
    ReplacedBy(BackendId),
}

/// Why a frame of the coordinator was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipCause {
    /// It can't be read.
    #[error(transparent)]
    Unreadable(#[from] FrameError),
    /// It belongs to the handshake, which is over.
    #[error("a frame of the handshake after it")]
    HandshakeOver,
    /// The coordinator sends no binary frames in this protocol.
    #[error("a binary frame of {0} bytes")]
    Binary(usize),
    /// It submits a job that is running.
    #[error("job {0} runs already")]
    JobRuns(JobId),
    /// It submits a job that has ended in this session.
    #[error("job {0} has ended")]
    JobEnded(JobId),
    /// It announces a handover without a deadline of 1 s to 10 min.
    #[error("a handover without a deadline of 1 s to 10 min")]
    HandoverDeadline,
}

/// Why a provider id may not be on the disk.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotStored {
    /// The file can't be written.
    #[error(transparent)]
    Refused(Arc<IdentityError>),
    /// The disk has not answered for this time.
    #[error("the disk has not answered for {} s", .0.as_secs())]
    TooSlow(Duration),
    /// A bug.
    #[error("the thread that stores it failed")]
    Panicked,
}

impl From<IdentityError> for NotStored {
    fn from(error: IdentityError) -> Self {
        Self::Refused(Arc::new(error))
    }
}
