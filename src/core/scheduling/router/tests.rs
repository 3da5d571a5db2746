//! The router: single rules, and ten thousand random sequences.

mod invariants;
mod rules;
mod sequences;
mod server;
mod sessions;
mod submission;
mod world;
