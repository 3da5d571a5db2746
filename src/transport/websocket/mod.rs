//! An open WebSocket connection: the codec of its frames, its two halves, and the pump that moves its frames.
//!
//! Nothing here knows what a frame means. Driven by the connection actor.

pub(crate) mod codec;
mod control;
pub(crate) mod frame_buffer;
pub(crate) mod line;
pub(crate) mod link;
pub(crate) mod pump;
