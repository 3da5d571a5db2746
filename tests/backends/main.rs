//! The client and the probes of backends, against scripted servers on this host.

// Clippy does not see that the functions next to the tests are test code too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aborts;
mod auto;
mod dialects;
mod early;
mod echo;
mod kinds;
mod looking;
mod looks;
mod matrix;
mod proofs;
mod requests;
mod reuse;
mod server;
mod servers;
mod services;
mod tls;
