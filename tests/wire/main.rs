//! Bytes to and from a coordinator: dialling it, and the golden files of its frames.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation ends the test")]

mod dial;
mod golden;
