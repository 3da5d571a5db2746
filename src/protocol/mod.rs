//! The rules, pure: no actor, no runtime, no clock, no environment. Time and chance are arguments.

pub mod affinity;
pub mod assemble;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod capacity;
pub mod catalog;
pub mod close;
pub mod damper;
pub mod error_body;
pub mod estimate;
pub mod fleet;
pub mod handshake;
pub mod key_filter;
pub mod key_trace;
pub mod ledger;
pub mod load;
pub mod request;
pub mod restart;
pub mod route;
pub mod selection;
pub mod sse;
pub mod translate;
pub mod unfold;
pub mod usage;
