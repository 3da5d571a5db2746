//! An open WebSocket connection: the codec of its frames, its two halves, and the pump that moves its frames.
//!
//! Nothing here knows what a frame means. Driven by the connection actor.

pub mod codec;
mod control;
pub mod frame_buffer;
pub mod line;
pub mod link;
pub mod pump;
