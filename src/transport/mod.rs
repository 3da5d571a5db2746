//! Bytes on sockets: TCP, proxy and TLS, the WebSocket connection to the coordinator, and the HTTP client for backends.
//!
//! `dial` opens the connection to the coordinator, `websocket` moves its frames. `http` is the client for the inference
//! servers. `local_only` is for servers on loopback: which HTTP requests are meant for this machine.

pub(crate) mod dial;
pub(crate) mod http;
pub(crate) mod local_only;
mod refusal;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod websocket;
pub(crate) mod write_deadline;
