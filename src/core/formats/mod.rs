//! Requests and responses of the inference APIs: what may be asked, what a response says, and one format made of another.

pub mod assemble;
pub mod disassemble;
pub mod error_body;
pub mod key_filter;
pub mod key_trace;
pub mod policy;
pub mod request;
pub mod sse;
pub mod translate;
pub mod usage;
