//! A model check of sessions: every state that the agent's router and the coordinator's session can get into together, while
//! the connections between them are cut at any point. Both ends are the code that runs; their drivers are the model's.
//!
//! What holds in each state:
//!
//! - ONE-END: a client gets exactly one end of its job, and as long as it waits, something is there that will end it;
//! - BYTES: a client gets the bytes of its response in order, none twice, and its end only behind all of them;
//! - STREAM: on one connection no frame of a job follows its terminal frame;
//! - RUNS-ONCE: a job is accepted once and runs once;
//! - CANCEL: after a resumption the coordinator requests nothing of a job whose client has left;
//! - ONE-CONNECTION: one connection at most reaches the jobs of a session;
//! - SLOT: no backend has more jobs than slots, the invariants of the router and its ledger hold, which free each slot once, and
//!   the coordinator books a slot for exactly those jobs that have a client;
//! - KEPT and QUIET: see [`checker`].
//!
//! `docs/reliability.md` has the bounds and the figures of the large check.

mod agent;
#[cfg(test)]
mod checker;
#[cfg(test)]
mod checks;
mod client;
mod coordinator;
mod link;
pub(crate) mod random;
mod world;
