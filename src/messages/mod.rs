//! Plain data: the frames of the wire and the messages of the actors.
//!
//! Nothing here decides anything. The lowest layer of the crate: every other module may import it, and it imports none.

pub(crate) mod backend;
pub(crate) mod cause;
pub(crate) mod discovery;
pub mod endpoint;
pub(crate) mod host_port;
pub mod ids;
pub(crate) mod jobs;
pub(crate) mod ledger;
pub(crate) mod lifecycle;
pub(crate) mod load;
pub mod members;
pub(crate) mod prices;
pub(crate) mod secret;
pub(crate) mod untrusted;
pub mod wire;
pub(crate) mod workers;
