//! Outbox and job streams over an in-memory connection, with the pump that drives them.

mod connection;
mod control;
mod sequences;
mod streams;
mod threads;
