//! A small HTTP/1.1 client. No pipelining, no redirects, no proxies, and no deadline except for connecting. Knows nothing
//! of models and keys.
//!
//! Dropping a request or its response closes the connection, which is how a request is cancelled. After a complete
//! response the connection can be used for the next request of the same client ([`IdleConnections`]). If such a connection
//! ends before any byte of a response, the server has closed it as idle: the request is sent once more, on a new
//! connection. While the request is written the response is read, so that the early refusal of a long body is received.
//!
//! A response that waits for bytes holds its socket and the state of its framing, some 400 bytes with what the runtime
//! keeps of a socket. Bytes are read into a buffer of the thread and handed out at once. A TLS session holds what rustls
//! needs in addition.

mod body;
mod buffer;
mod chunked;
mod error;
mod exchange;
mod framing;
mod head;
mod idle;
mod origin;
mod progress;
mod request;
#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, reason = "what does not hold ends a test")]
pub(crate) mod scripted;
mod upload;

pub(crate) use body::Body;
pub(crate) use error::{HttpBodyError, HttpError};
pub(crate) use exchange::Response;
pub(crate) use idle::IdleConnections;
pub(crate) use origin::Origin;
pub(crate) use request::{Method, Request};
