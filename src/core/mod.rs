//! The pure core: no actor, no runtime, no clock, no environment. Time and randomness are arguments.

#[cfg(any(test, fuzzing))]
pub(crate) mod fingerprint;
pub(crate) mod formats;
pub(crate) mod json;
pub(crate) mod restart;
pub(crate) mod scheduling;
pub(crate) mod session;
