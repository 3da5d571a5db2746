//! What a scripted agent receives.

use crate::messages::wire::FromCoordinator;

/// What an agent receives. Pings are not reported, and acknowledgements only by `ScriptedAgent::ack`.
#[derive(Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// A message.
    Frame(FromCoordinator),
    /// The answer to a ping.
    Pong,
    /// A close frame, with its code and reason where it has them.
    Close(Option<(u16, String)>),
    /// The end of the stream.
    Eof,
}
