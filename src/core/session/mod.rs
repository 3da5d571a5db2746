//! A connection to the coordinator: how it is authenticated, how long it lives, how its end is classified, and when the next
//! one is dialled.

pub mod backoff;
pub mod close;
pub mod frames;
pub mod handshake;
pub mod liveness;
pub mod nonces;
