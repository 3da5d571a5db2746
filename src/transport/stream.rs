//! A byte stream to a peer, and why there is none. Used by every protocol of `transport`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no connection. The text is for the log and holds nothing that the peer wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{0} can't be resolved: {1}")]
    Resolve(String, io::ErrorKind),
    /// No address takes the connection.
    #[error("no connection: {0}")]
    Connect(io::ErrorKind),
    /// The proxy refuses, or is not a proxy.
    #[error("the proxy does not connect us: {0}")]
    Proxy(String),
    /// TLS failed: an unknown issuer, another name, an expired certificate.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server answers, and not with a WebSocket.
    #[error("the server answers {0} instead of a WebSocket")]
    Refused(u16),
    /// 401 or 403: the server, or a proxy in front of it, does not let us in.
    #[error("the server does not let us in: it answers {0}; check the credentials in OUTPOST_COORDINATOR_URL")]
    NotAdmitted(u16),
    /// 429 or 503: not now.
    #[error("the server takes no connections now: it answers {status}")]
    Busy {
        /// Its status.
        status: u16,
        /// How long it asks not to be dialled.
        retry_after: Option<Duration>,
    },
    /// The server is elsewhere. That is not followed: it would have the key prove itself to somebody else.
    #[error("the server redirects us ({0}), which is not followed; set OUTPOST_COORDINATOR_URL to where it is")]
    Redirected(u16),
    /// The answer to the upgrade is not acceptable.
    #[error("the upgrade failed: {0}")]
    Upgrade(String),
    /// No answer within the limit.
    #[error("no answer in time")]
    TimedOut,
}
