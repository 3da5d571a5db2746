//! Bytes on sockets: TCP, proxy and TLS, the WebSocket connection to the coordinator, and the HTTP client for backends.
//!
//! `dial` opens the connection to the coordinator, `websocket` moves its frames. `http` is the client for the inference
//! servers. `local_only` is for servers on loopback: which HTTP requests are meant for this machine.

pub mod dial;
pub(crate) mod http;
pub mod local_only;
mod refusal;
pub mod stream;
pub mod tcp;
pub mod tls;
pub mod websocket;
