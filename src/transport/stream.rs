//! A byte stream to a peer, and the error if there is none. Used by every protocol of `transport`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no connection. The text is for the log and holds nothing that the peer wrote.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{0} can't be resolved: {1}")]
    Resolve(String, io::ErrorKind),
    /// No address takes the connection.
    #[error("no connection: {0}")]
    Connect(io::ErrorKind),
    /// The proxy refuses, or is not a proxy.
    #[error("the proxy makes no connection: {0}")]
    Proxy(ProxyFault),
    /// TLS failed: an unknown issuer, another name, an expired certificate.
    #[error("TLS failed: {0}")]
    Tls(rustls::Error),
    /// TLS is impossible: no certificate can be of such a host.
    #[error("TLS failed: the host is neither an address nor a valid name")]
    TlsName,
    /// The server answers, and not with a WebSocket.
    #[error("the server answers {0} instead of a WebSocket")]
    Refused(u16),
    /// 401 or 403: the server, or a proxy in front of it, refuses the credentials.
    #[error("the server refuses access: it answers {0}; check the credentials in OUTPOST_COORDINATOR_URL")]
    NotAdmitted(u16),
    /// 429 or 503: not now.
    #[error("the server accepts no connections now: it answers {status}")]
    Busy {
        /// Its status.
        status: u16,
        /// How long it asks not to be dialled.
        retry_after: Option<Duration>,
    },
    /// The server is elsewhere. That is not followed: the agent would authenticate to another server.
    #[error("the server redirects ({0}), which is not followed; set OUTPOST_COORDINATOR_URL to the right address")]
    Redirected(u16),
    /// The answer to the upgrade is not acceptable.
    #[error("the upgrade failed: {0}")]
    Upgrade(UpgradeFault),
    /// No answer within the limit.
    #[error("no answer in time")]
    TimedOut,
}

/// Why a proxy makes no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// The connection to it broke.
    #[error("{0}")]
    Broken(io::ErrorKind),
    /// The head of its answer is too long.
    #[error("its answer has no end")]
    Endless,
    /// It answers with a status other than a success.
    #[error("it answers {0}")]
    Status(u16),
    /// It does not speak HTTP.
    #[error("its answer is not HTTP")]
    NotHttp,
}

/// What is wrong with an upgrade to a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeFault {
    /// The client could not make the request.
    #[error("the request could not be made")]
    NoRequest,
    /// A header of the upgrade is missing or has another value.
    #[error("the answer has no proper upgrade headers")]
    Headers,
    /// The header that proves that the server read the request is missing or wrong.
    #[error("the answer's accept key is missing or wrong")]
    AcceptKey,
    /// The answer is not HTTP, or too long.
    #[error("the answer is not a valid HTTP response")]
    NotHttp,
}
