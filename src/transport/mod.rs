//! The way to the coordinator: dialling, WebSocket frames, and the pump that moves them.
//!
//! `local_only` is for servers on loopback: which HTTP requests are meant for this machine.
//!
//! Nothing here knows what a frame means. Driven by the connection actor.

mod control;
pub mod dial;
pub mod frame;
pub mod frame_buffer;
pub mod line;
pub mod link;
pub mod local_only;
pub mod pump;
mod refusal;
pub mod tcp;
pub mod tls;
