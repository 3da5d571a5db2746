//! The text of the frames that a coordinator sends: read by the agent, written by the coordinator.
//!
//! Reading is lenient: unknown fields are ignored, an unknown type is [`FromCoordinator::Unknown`], and a malformed job
//! with a readable id is [`FromCoordinator::MalformedJob`], so that it can be answered.
//!
//! [`FromCoordinator::Unknown`]: crate::messages::wire::FromCoordinator::Unknown
//! [`FromCoordinator::MalformedJob`]: crate::messages::wire::FromCoordinator::MalformedJob

mod read;
mod target;
mod write;

pub(crate) use read::FrameError;

#[cfg(test)]
mod tests;
