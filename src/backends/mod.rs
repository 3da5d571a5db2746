//! The inference servers: how each kind is probed, and how a request reaches it.
//!
//! Two sides, two traits. Discovery holds [`Source`]s: places where a backend may be. Probing one yields a
//! [`ProbeResult`]. A worker holds a [`Backend`], made on its own thread by a [`BackendFactory`].
//!
//! All kinds are reached over HTTP/1.1 the same way ([`client`]); they differ in how a probe reads models, context, slots
//! and load (`kinds`). Which endpoints a server has is probed (`capability`). [`configured`] probes where the operator configures it,
//! [`auto`] at the usual ports of this host.

mod abort;
mod api;
pub mod auto;
mod capability;
pub(crate) mod client;
pub mod configured;
mod gauges;
mod identify;
mod kinds;
mod lenient;
mod observer;
mod offer;
mod price;
mod probe;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;

use crate::core::formats::key_trace::KeyTrace;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ProbeError};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{BackendId, JobId};
use crate::transport::http::{HttpBodyError, HttpError};

/// A place where a backend may be: a configured one, or a port of this host that `auto` probes.
pub trait Source {
    /// What it is called in logs and in the status.
    fn name(&self) -> &str;

    /// Whether the operator named it, so that its absence is worth a warning.
    fn is_configured(&self) -> bool {
        true
    }

    /// How long one probe may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// Probes once. The caller enforces the timeout and may drop the future at any time.
    fn probe(&self) -> LocalBoxFuture<'static, Result<ProbeResult, ProbeError>>;

    /// Reads how many active requests the backend last seen here has, from all its clients: for polls between probes. At
    /// most one a second: llama.cpp does not notice a client that left while it is polled more often. `None` where it does not report them, or not within a second.
    fn load(&self) -> LocalBoxFuture<'static, Option<u32>> {
        Box::pin(std::future::ready(None))
    }
}

/// A probe result: a healthy backend.
#[derive(Clone)]
pub struct ProbeResult {
    /// Makes the clients that work its jobs. The same `Arc` as long as it is the same backend.
    pub factory: Arc<dyn BackendFactory>,
    /// What it offers now.
    pub report: BackendReport,
}

/// Makes clients of one backend. Shared by all threads.
pub trait BackendFactory: Send + Sync {
    /// The backend's name.
    fn id(&self) -> &BackendId;

    /// What sort of server it is.
    fn kind(&self) -> BackendKind;

    /// A client for the calling thread.
    fn open(&self) -> Rc<dyn Backend>;
}

/// One backend, as a worker uses it.
pub trait Backend {
    /// Sends a request and waits for the head of the response. Dropping the future, or the response, closes the
    /// connection, which is how a request is cancelled; a server that may not notice that is also sent a request that
    /// ends it, in the background. No deadline of its own but for connecting.
    fn send(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<BackendResponse, SendError>>;

    /// What finds the backend's API key in its errors. None where it has no key.
    fn key_trace(&self) -> Option<Arc<KeyTrace>> {
        None
    }
}

/// A request to a backend's API.
pub struct BackendRequest {
    /// The job it is for. Servers that end requests by name know this one by a name made of it.
    pub job: JobId,
    /// Which API.
    pub endpoint: Endpoint,
    /// The JSON body, in pieces that are sent one after the other.
    pub body: Vec<Bytes>,
}

/// The head of a backend's response, and its body to come.
pub struct BackendResponse {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type` without its parameters, in lower case; empty where there is none.
    pub content_type: String,
    /// The body as it arrives. An end that the transport can prove to be early is an error; others are not seen here.
    pub body: LocalBoxStream<'static, Result<Bytes, BodyError>>,
}

/// Why no response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Refused, not resolved, not verified, or closed before any byte of the request was written.
    #[error("no connection to the backend")]
    Unreachable,
    /// The connection broke after a byte of the request was written and before the head of a response was there: the
    /// request may be what broke it.
    #[error("the connection to the backend broke before its response")]
    Broke,
    /// The backend's response is not valid HTTP.
    #[error("the backend's answer can't be read")]
    Garbled,
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Reset, cut, or not as long as its framing announces.
    #[error("the backend's response broke off")]
    Broken,
    /// A content encoding that was not requested.
    #[error("the backend's response is encoded")]
    Encoded,
}

impl From<HttpError> for SendError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Unreachable => Self::Unreachable,
            HttpError::Broke => Self::Broke,
            HttpError::Garbled => Self::Garbled,
        }
    }
}

impl From<HttpBodyError> for BodyError {
    fn from(error: HttpBodyError) -> Self {
        match error {
            HttpBodyError::Broken => Self::Broken,
            HttpBodyError::Encoded => Self::Encoded,
        }
    }
}
