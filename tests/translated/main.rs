//! Anthropic's messages over a server that has only chat completions: what requests become, and what answers become.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't read its transcript has failed")]

mod answers;
mod grammar;
mod hostile;
mod recorded;
mod refused_requests;
mod requests;
mod stream;
