//! Requests and responses of the inference APIs: what a request may contain, what a response reports, and translations
//! between formats.

pub(crate) mod anthropic;
pub(crate) mod assemble;
pub(crate) mod disassemble;
pub(crate) mod error_body;
pub(crate) mod event_writer;
pub(crate) mod key_filter;
pub(crate) mod key_trace;
pub(crate) mod openai;
pub(crate) mod policy;
pub(crate) mod request;
pub(crate) mod sse;
pub(crate) mod translate;
pub(crate) mod usage;

#[cfg(test)]
mod recorded_tests;
