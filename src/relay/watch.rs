//! What becomes of a response's bytes on their way to the coordinator: nothing, or another format's. Either way without
//! an error that contains the backend's API key.

use std::sync::Arc;

use bytes::BytesMut;

use crate::core::formats::key_filter::KeyFilter;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::translate::MessageEvents;
use crate::core::formats::usage::{Ending, ResponseScan};
use crate::messages::endpoint::Endpoint;

/// Watches a stream for its end and what it cost.
pub(super) enum Watch {
    /// The bytes are sent as they came.
    AsIs(Box<ResponseScan>, Option<Box<KeyFilter>>),
    /// Chat completions that are sent as Anthropic's events.
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
    /// A stream of this endpoint that is sent as it comes.
    pub(super) fn as_is(endpoint: Endpoint, key: Option<Arc<KeyTrace>>) -> Self {
        Self::AsIs(Box::new(ResponseScan::new(endpoint)), key.map(KeyFilter::new).map(Box::new))
    }

    /// Translates.
    pub(super) fn translated(events: MessageEvents) -> Self {
        Self::Translated { events: Box::new(events), made: BytesMut::new() }
    }

    /// Takes the next bytes of the response and gives out what is sent for them.
    pub(super) fn pass(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) {
        match self {
            Self::AsIs(scan, None) => {
                scan.feed(bytes);
                out(bytes);
            }
            Self::Translated { events, made } => {
                events.feed(bytes, made);
                out(made);
                *made = BytesMut::new();
            }
            Self::AsIs(scan, Some(filter)) => {
                let may_be_error = |piece: &[u8]| {
                    let was_over = scan.is_over();
                    scan.feed(piece);
                    was_over || scan.has_failed()
                };
                filter.feed(bytes, may_be_error, &mut out);
            }
            Self::Over => {}
        }
    }

    /// Whether how the response ends is known.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::AsIs(scan, _) => scan.is_over(),
            Self::Translated { events, .. } => events.is_over(),
            Self::Over => true,
        }
    }

    /// Whether a part of the answer is not sent because it contains the backend's API key.
    pub(super) fn has_cut_answer(&self) -> bool {
        matches!(self, Self::AsIs(_, Some(filter)) if filter.has_cut_answer())
    }

    /// The response has ended. How, after what is left to be sent was given out.
    pub(super) fn finish(&mut self, mut out: impl FnMut(&[u8])) -> Ending {
        match std::mem::replace(self, Self::Over) {
            Self::AsIs(scan, None) => scan.finish(),
            Self::AsIs(scan, Some(filter)) => {
                let ending = scan.finish();
                let is_complete = matches!(ending, Ending::Complete { .. });
                filter.finish(is_complete, &mut out);
                ending
            }
            Self::Translated { events, mut made } => {
                let ending = events.finish(&mut made);
                out(&made);
                ending
            }
            Self::Over => Ending::Truncated,
        }
    }
}
