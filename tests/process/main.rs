//! The binary as a process among others: real sockets, signals, files and limits, against a coordinator and inference
//! servers that do what the test says.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is amiss")]
#![allow(clippy::disallowed_methods, reason = "a test is its own owner: what it spawns ends with its runtime")]

mod configuration;
mod connection;
mod coordinator_command;
mod dev;
mod identity;
mod jobs;
mod kills;
mod memory;
mod metrics;
mod pause;
mod privacy;
mod requests;
mod resets;
mod scripted_backend;
mod shutdown;
mod status_page;
mod support;
mod usage;
