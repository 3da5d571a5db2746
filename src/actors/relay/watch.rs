//! What becomes of a response's bytes on their way up: nothing, or another format's.

use bytes::BytesMut;

use crate::protocol::translate::MessageEvents;
use crate::protocol::usage::{Ending, ResponseScan};

/// Watches a stream for its end and what it cost.
pub(super) enum Watch {
    /// The bytes go up as they came.
    AsIs(ResponseScan),
    /// Chat completions that go up as Anthropic's events.
    Translated(Box<MessageEvents>),
    /// The end was asked for.
    Over,
}

impl Watch {
    /// Takes the next bytes of the response and appends what goes up for them.
    pub(super) fn pass(&mut self, bytes: &[u8], out: &mut BytesMut) {
        match self {
            Self::AsIs(scan) => {
                scan.feed(bytes);
                out.extend_from_slice(bytes);
            }
            Self::Translated(events) => events.feed(bytes, out),
            Self::Over => {}
        }
    }

    /// Whether how the response ends is known.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::AsIs(scan) => scan.is_over(),
            Self::Translated(events) => events.is_over(),
            Self::Over => true,
        }
    }

    /// The response has ended. How, with what is left to go up appended.
    pub(super) fn finish(&mut self, out: &mut BytesMut) -> Ending {
        match std::mem::replace(self, Self::Over) {
            Self::AsIs(scan) => scan.finish(),
            Self::Translated(events) => events.finish(out),
            Self::Over => Ending::Truncated,
        }
    }
}
