//! `outpost`: a daemon that offers the models of the inference servers beside it to a coordinator, and works its jobs.
//!
//! Floors, lowest first; a module imports only from floors below it, which `tests/architecture` holds:
//! `messages` (data) · `protocol` (pure rules), `config` · `telemetry` · `identity`, `transport` · `backends`, `conformance` ·
//! `actors` (thin drivers), `coordinator` (the other end of the wire) · `testkit` (the harness), `app` (wires it) · `dev` · `cli`.
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
pub mod telemetry;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod transport;
