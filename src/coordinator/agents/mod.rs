//! The agents' connections: admission, WebSocket sessions, and the frames of agents.

mod agent_session;
pub(crate) mod agent_sessions;
mod failed_codes;
pub(crate) mod frame_scanner;
pub(crate) mod frames;
pub(crate) mod handshake;
mod inbound;
pub(crate) mod link;
pub(crate) mod peer;
pub(crate) mod session;
pub(crate) mod session_lifecycle;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, some of which the fuzzer runs too")]
pub(crate) mod tests;
mod workload;
