//! The router: single rules, and ten thousand random sequences. The fuzzer makes sequences too, of its inputs.

mod invariants;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod seeds;
pub(crate) mod sequences;
mod server;
mod submission;
mod world;
