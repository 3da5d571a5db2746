//! The way to the coordinator: dialling, WebSocket frames, and the pump that moves them.
//!
//! Nothing here knows what a frame means. Driven by the connection actor; workers hold an [`uplink::Uplink`].

mod chunk;
mod control;
pub mod dial;
pub mod frame;
pub mod lease;
pub mod link;
pub mod pump;
mod refusal;
pub mod tcp;
pub mod tls;
pub mod uplink;
