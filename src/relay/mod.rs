//! One job at work: its request to a backend, and the bounded outbox for its response bytes.

pub mod chunk;
mod fault;
pub mod job_stream;
pub mod outbox;
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
