//! The rules, pure: no actor, no runtime, no clock, no environment. Time and chance are arguments.

pub mod assemble;
pub mod backoff;
pub mod catalog;
pub mod close;
pub mod handshake;
pub mod ledger;
pub mod load;
pub mod members;
pub mod request;
pub mod restart;
pub mod sse;
pub mod unfold;
pub mod usage;
