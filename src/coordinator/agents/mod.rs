//! The agents' connections: admission, WebSocket sessions, and the frames of agents.

mod borders;
pub(crate) mod frames;
pub(crate) mod guesses;
pub(crate) mod handshake;
mod inbound;
pub(crate) mod link;
pub(crate) mod session;
mod workload;
