//! The agents' connections: admission, WebSocket sessions, and the frames of agents.

mod borders;
mod failed_codes;
pub(crate) mod frames;
pub(crate) mod handshake;
mod inbound;
pub(crate) mod link;
pub(crate) mod peer;
pub(crate) mod session;
mod workload;
