//! The rules, pure: no actor, no runtime, no clock, no environment. Time and chance are arguments.

pub mod assemble;
pub mod backoff;
pub mod close;
pub mod error_body;
pub mod handshake;
pub mod key_filter;
pub mod key_trace;
pub mod liveness;
pub mod nonces;
pub mod pacing;
pub mod policy;
pub mod repeats;
pub mod request;
pub mod restart;
pub mod sse;
pub mod translate;
pub mod unfold;
pub mod usage;
