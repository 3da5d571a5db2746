//! A connection to the coordinator, and the session that outlives it: authentication, how far responses have come, liveness,
//! classification of its end, and the wait before the next one.

pub(crate) mod auth2;
pub(crate) mod backoff;
pub(crate) mod close;
pub(crate) mod delivery;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod liveness;
pub(crate) mod nonces;
pub(crate) mod sessions;
