//! A whole agent between a scripted coordinator and scripted backends, on a paused clock: each file is a behaviour.

mod handshake;
mod heartbeat;
