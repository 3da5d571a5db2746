//! Requests and responses of the inference APIs: what a request may contain, what a response reports, and translations
//! between formats.

pub(crate) mod anthropic;
pub mod assemble;
pub mod disassemble;
pub mod error_body;
pub(crate) mod event_writer;
pub mod key_filter;
pub mod key_trace;
pub(crate) mod openai;
pub mod policy;
pub mod request;
pub mod sse;
pub mod translate;
pub mod usage;

#[cfg(test)]
mod recorded_tests;
