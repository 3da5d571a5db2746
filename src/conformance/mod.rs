//! Conformance checks for coordinators: plays an agent against one and reports what it violates.
//!
//! `outpost conformance URL` runs it. It checks the rules of the wire protocol that an agent can observe alone: the
//! handshake, the frames of the steady state, pings and closes. Jobs need a client of the coordinator, so it offers
//! models that no client requests. Each check opens connections of its own, and each wait has a deadline.

mod checks;
mod conversation;
mod finding;
mod peer;

pub use checks::{Check, Group};
pub use conversation::Target;
pub use finding::{Finding, Outcome, Received};
pub use peer::{End, Fragment, Peer};
