//! Data that travels: the wire's frames and the actors' plain messages.
//!
//! Nothing here decides anything. The lowest floor of the crate: every other module may import it, it imports none.

pub mod backend;
pub mod cause;
pub mod discovery;
pub mod endpoint;
pub mod ids;
pub mod jobs;
pub mod json;
pub mod lifecycle;
pub mod prices;
pub mod secret;
pub mod wire;
