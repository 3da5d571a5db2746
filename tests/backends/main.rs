//! What an inference server can do to its client and to a look at it, played by a scripted server on this host.

// Beside the tests themselves this crate is what they are made of, which clippy doesn't see.
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
