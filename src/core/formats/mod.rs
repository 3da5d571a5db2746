//! Requests and responses of the inference APIs: what a request may contain, what a response reports, and translations
//! between formats.

pub mod assemble;
pub mod disassemble;
pub mod error_body;
pub mod error_envelope;
pub mod key_filter;
pub mod key_trace;
pub mod policy;
pub mod request;
pub mod sse;
pub mod translate;
pub mod usage;
