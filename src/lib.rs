//! `outpost`: a daemon next to inference servers. It offers their models to a coordinator and works its jobs.
//!
//! Layers, lowest first; a module imports only from layers below it, which `tests/architecture.rs` checks:
//! `messages` (plain data) · `core` (pure rules), `config` · `telemetry` · `identity`, `transport` · `backends` · `relay`
//! (one job at work) · `actors` (thin drivers), `coordinator` (the other end of the wire) · `testkit` (the harness), `app`
//! (wires it) · `dev` · `cli`.
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
