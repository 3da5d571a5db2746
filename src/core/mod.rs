//! The pure core: no actor, no runtime, no clock, no environment. Time and randomness are arguments.

pub mod formats;
pub mod json;
pub mod restart;
pub mod scheduling;
pub mod session;
