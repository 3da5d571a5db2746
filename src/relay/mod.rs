//! One job at work: its request to a backend, and the bounded way of the answer's bytes to the wire.

pub(crate) mod allowance;
mod backend_progress;
mod body;
pub(crate) mod chunk;
mod fault;
mod held;
pub(crate) mod job_stream;
pub(crate) mod outbox;
mod prepare;
mod refusal;
mod run;
mod segments;
mod sender;
mod transfer;
mod watch;
mod whole;

pub(crate) use fault::{Fault, end, give_up};
pub(crate) use run::{Relayed, finish, run};

#[cfg(test)]
mod tests;
