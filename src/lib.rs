//! `outpost`: a daemon that offers the models of local inference servers to a coordinator and works the coordinator's jobs.
//!
//! # Layers
//!
//! A module imports only from layers below its own, and modules of one layer do not import each other;
//! `tests/architecture` checks this. Highest first:
//!
//! | layer | content |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`dev`] | `outpost dev`: a coordinator and an agent in one process |
//! | [`app`], `testkit` | wiring of the real parts; the public test harness |
//! | [`actors`], [`coordinator`] | thin drivers around the rules; the other end of the wire |
//! | [`relay`] | one job at work, and the bounded outbox to the connection |
//! | [`backends`], [`status`], [`conformance`] | the inference servers: identification, probes, requests; the status page; checks of a coordinator |
//! | [`telemetry`] | events, the log, the snapshot |
//! | [`identity`], [`transport`] | the key on disk; bytes on sockets |
//! | `core`, [`config`] | the rules, without IO; the configuration |
//! | [`messages`] | plain data: frames of the wire, ids, messages between actors |
//!
//! # Reading order
//!
//! 1. `docs/architecture.md`: how a job and a response byte pass through the agent, and where to add what.
//! 2. [`messages::wire`]: the frames, and `docs/protocol.md`: what they mean.
//! 3. [`crate::core::scheduling::router`]: the state machine that decides about jobs.
//! 4. `src/actors/mod.rs`: what holds for all actors; then the router's actor, which drives the state machine.
//! 5. [`relay`]: from a job's request to the bytes of its response.
//! 6. [`coordinator`]: the other end of the wire.
//! 7. `testkit`: the harness, and `tests/agent`, whose file names list the agent's behaviours.
#![warn(
    unreachable_pub,
    clippy::dbg_macro,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::todo,
    clippy::unimplemented,
    clippy::unwrap_used
)]

pub mod actors;
pub mod app;
pub mod backends;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod coordinator;
pub mod core;
pub mod dev;
pub mod identity;
pub mod messages;
pub mod relay;
pub mod status;
pub mod telemetry;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod transport;
