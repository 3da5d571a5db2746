//! `outpost`: a daemon that offers the models of local inference servers to a coordinator and works the coordinator's jobs.
//!
//! # Layers
//!
//! A module imports only from layers below its own, and modules of one layer do not import each other;
//! `tests/architecture` checks this. Highest first:
//!
//! | layer | content |
//! | --- | --- |
//! | `cli`, `internals`, `fuzzing` | the command line; what the crate's own tests use; the checks of the fuzzer |
//! | `dev` | `outpost dev`: a coordinator and an agent in one process |
//! | `app`, `testkit` | wiring of the real parts; the public test harness |
//! | `actors`, `coordinator` | thin drivers around the rules; the other end of the wire |
//! | `relay` | one job at work, and the bounded outbox to the connection |
//! | `backends`, `status`, `conformance` | the inference servers: identification, probes, requests; the status page; checks of a coordinator |
//! | `accounts` | the ledger of ended jobs |
//! | `telemetry` | events, the log, the snapshot |
//! | `identity`, `transport` | the key on disk; bytes on sockets |
//! | `core`, `config` | the rules, without IO; the configuration |
//! | `messages` | plain data: frames of the wire, ids, messages between actors |
//!
//! For users of the library are `testkit`, with the feature of that name, [`conformance`] and [`messages`]. `internals` is
//! for the crate's own tests and benchmarks. The rest is private, so that the compiler reports what no part uses.
//!
//! # Reading order
//!
//! 1. `docs/architecture.md`: how a job and a response byte pass through the agent, and where to add what.
//! 2. [`messages::wire`]: the frames, and `docs/protocol.md`: what they mean.
//! 3. `core::scheduling::router`: the state machine that decides about jobs.
//! 4. `src/actors/mod.rs`: what holds for all actors; then the router's actor, which drives the state machine.
//! 5. `relay`: from a job's request to the bytes of its response.
//! 6. `coordinator`: the other end of the wire.
//! 7. `testkit`: the harness, and `tests/agent`, whose file names list the agent's behaviours.
// Only with the harness: without it, what only the harness exposes can not be reached.
#![cfg_attr(feature = "testkit", warn(unreachable_pub))]
#![cfg_attr(fuzzing, allow(dead_code, reason = "the fuzzer runs a part of what tests run"))]
#![warn(
    clippy::dbg_macro,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::todo,
    clippy::unimplemented,
    clippy::unwrap_used
)]

mod accounts;
mod actors;
mod app;
mod backends;
pub mod cli;
mod config;
pub mod conformance;
mod coordinator;
mod core;
mod dev;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
#[cfg(feature = "testkit")]
#[doc(hidden)]
pub mod internals;
pub mod messages;
mod relay;
mod status;
mod telemetry;
#[cfg(feature = "testkit")]
pub mod testkit;
mod transport;
