//! Conformance checks for coordinators: plays an agent against one and reports what it violates.
//!
//! `outpost conformance URL` runs it. It checks the rules of the wire protocol (`docs/protocol.md`) that an agent can observe
//! alone: the handshake, the frames of the steady state, pings, closes, and those extensions that the coordinator offers. Jobs
//! need a client of the coordinator, so it offers a model that no client requests. Each check opens connections of its own, and
//! each wait has a deadline.

mod checks;
mod conversation;
mod finding;
mod peer;

pub use checks::{Check, Group};
pub use conversation::Target;
pub use finding::{Finding, Outcome, Received};
pub use peer::{End, Fragment, Peer};
