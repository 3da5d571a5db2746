//! Plain data: the frames of the wire and the messages of the actors.
//!
//! Nothing here decides anything. The lowest layer of the crate: every other module may import it, and it imports none.

pub mod backend;
pub mod cause;
pub mod discovery;
pub mod endpoint;
pub mod ids;
pub mod jobs;
pub mod lifecycle;
pub mod load;
pub mod members;
pub mod prices;
pub mod secret;
pub mod untrusted;
pub mod wire;
pub mod workers;
