//! The real `outpost` binary against a real llama.cpp server with a real model. `scripts/real-model.sh` runs it.
//!
//! Ignored without that server. Two variables say where it is: `OUTPOST_TEST_LLAMA_URL`, a running server with two slots
//! that is greedy unless told otherwise, and `OUTPOST_TEST_LLAMA_DIR`, where `scripts/llama.sh` installed it, for the tests
//! that start, kill and restart one of their own. Tests take turns, since slots and cores are few.

#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests measure real time, of processes that run on it")]

mod answer;
mod answers;
mod cancels;
mod capacity;
mod client;
mod dev;
mod failures;
mod fleet;
mod llama;
mod offers;
mod process;
mod proxy;
mod scripted;
mod sdks;
mod sticky;
mod twins;
mod waiting;
