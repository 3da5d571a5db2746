//! Bytes from other programs: dialling a coordinator, the streams of inference servers, and their translation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation ends the test")]

mod dial;
mod golden;
mod recorded_streams;
mod translated;
