//! A small HTTP/1.1 client: one connection, one request, one response. No pool, no redirects, no proxies, no deadline but
//! for connecting. Knows nothing of models and keys; driven by `api`.
//!
//! Closing the connection is how a request is cancelled, so none is shared or used twice. While the request is written
//! the answer is read, so that a server which refuses a long body early is understood.
//!
//! What a response that waits for bytes holds: its socket and how far its framing is read, some 400 bytes with what the
//! runtime keeps of a socket. Bytes are read into a buffer of the thread and handed out at once. A TLS session holds what
//! rustls needs beside that.

mod body;
mod buffer;
mod chunked;
mod error;
mod exchange;
mod framing;
mod head;
mod origin;
mod request;
mod upload;

pub(crate) use body::Body;
pub(crate) use error::{HttpBodyError, HttpError};
pub(crate) use exchange::Response;
pub(crate) use origin::Origin;
pub(crate) use request::{Method, Request};
