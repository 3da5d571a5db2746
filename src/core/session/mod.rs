//! A connection to the coordinator: authentication, liveness, classification of its end, and the wait before the next one.

pub mod backoff;
pub mod close;
pub mod frames;
pub mod handshake;
pub mod liveness;
pub mod nonces;
