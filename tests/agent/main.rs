//! A whole agent between a scripted coordinator and scripted backends, on a paused clock: each file is a behaviour.

mod backend_errors;
mod base_protocol;
mod breaker;
mod cancel;
mod capacity;
mod connection_loss;
mod discovery;
mod drain;
mod endings;
mod extensions;
mod failover;
mod formats;
mod handshake;
mod harness;
mod heartbeat;
mod job_errors;
mod jobs;
mod liveness;
mod long_responses;
mod moving;
mod request_policy;
mod stranded;
mod supervision;
mod translated;
mod useless_frames;
mod waiting;
