//! Why the status can't be served or read.

use std::io;
use std::net::SocketAddr;

/// Why the status can't be served or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    /// The address can't be bound.
    #[error("can't listen on {0} for the status page: {1}")]
    Bind(SocketAddr, io::Error),
    /// There is no answer.
    #[error("no agent answers on {0}: is it running, and with this OUTPOST_STATUS_ADDR?")]
    NoAnswer(SocketAddr),
    /// An order was refused.
    #[error("{0} refuses the order: {1}")]
    Refused(SocketAddr, String),
    /// The answer is not the status of an agent.
    #[error("{0} answered, but it is not an outpost agent")]
    NotOurs(SocketAddr),
}
