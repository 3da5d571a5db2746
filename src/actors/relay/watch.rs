//! What becomes of a response's bytes on their way up: nothing, or another format's.

use bytes::BytesMut;

use crate::protocol::translate::MessageEvents;
use crate::protocol::usage::{Ending, ResponseScan};

/// Watches a stream for its end and what it cost.
pub(super) enum Watch {
    /// The bytes go up as they came.
    AsIs(ResponseScan),
    /// Chat completions that go up as Anthropic's events.
    Translated {
        /// The translation.
        events: Box<MessageEvents>,
        /// What it has made of the last bytes. Empty between calls.
        made: BytesMut,
    },
    /// The end was asked for.
    Over,
}

impl Watch {
    /// Translates.
    pub(super) fn translated(events: MessageEvents) -> Self {
        Self::Translated { events: Box::new(events), made: BytesMut::new() }
    }

    /// Takes the next bytes of the response and gives out what is sent for them.
    pub(super) fn pass(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) {
        match self {
            Self::AsIs(scan) => {
                scan.feed(bytes);
                out(bytes);
            }
            Self::Translated { events, made } => {
                events.feed(bytes, made);
                out(made);
                *made = BytesMut::new();
            }
            Self::Over => {}
        }
    }

    /// Whether how the response ends is known.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::AsIs(scan) => scan.is_over(),
            Self::Translated { events, .. } => events.is_over(),
            Self::Over => true,
        }
    }

    /// The response has ended. How, after what is left to be sent was given out.
    pub(super) fn finish(&mut self, mut out: impl FnMut(&[u8])) -> Ending {
        match std::mem::replace(self, Self::Over) {
            Self::AsIs(scan) => scan.finish(),
            Self::Translated { events, mut made } => {
                let ending = events.finish(&mut made);
                out(&made);
                ending
            }
            Self::Over => Ending::Truncated,
        }
    }
}
