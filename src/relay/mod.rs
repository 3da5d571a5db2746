//! One job at work: the bounded way of its bytes to the wire.

pub mod chunk;
pub mod job_stream;
pub mod outbox;
#[cfg(test)]
mod tests;
