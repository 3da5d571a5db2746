//! A whole agent between a scripted coordinator and scripted backends, on a paused clock: each file is a behaviour.

mod cancel;
mod capacity;
mod connection_loss;
mod discovery;
mod drain;
mod endings;
mod handshake;
mod heartbeat;
mod job_errors;
mod jobs;
