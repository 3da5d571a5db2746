//! Scans a response stream, and translates it if the job requires that. Removes errors that contain the backend's API key.

use std::sync::Arc;

use bytes::BytesMut;

use crate::core::formats::key_filter::KeyFilter;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::translate::MessageEvents;
use crate::core::formats::usage::{Ending, ResponseScan};
use crate::messages::endpoint::Endpoint;

/// Scans a stream for its end and its usage.
pub(super) enum Watch {
    /// The bytes are sent as received.
    AsIs(Box<ResponseScan>, Option<Box<KeyFilter>>),
    /// Chat completions that are sent as Anthropic's events.
    Translated {
        /// The translation.
        events: Box<MessageEvents>,
        /// The translation of the last bytes. Empty between calls.
        made: BytesMut,
    },
    /// The result was taken.
    Over,
}

impl Watch {
    /// For a stream of this endpoint that is sent as received.
    pub(super) fn as_is(endpoint: Endpoint, key: Option<Arc<KeyTrace>>) -> Self {
        Self::AsIs(Box::new(ResponseScan::new(endpoint)), key.map(KeyFilter::new).map(Box::new))
    }

    /// For a stream that is translated.
    pub(super) fn translated(events: MessageEvents) -> Self {
        Self::Translated { events: Box::new(events), made: BytesMut::new() }
    }

    /// Handles the next bytes of the response, and calls `out` with the bytes to send.
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

    /// Whether it is known how the response ends.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::AsIs(scan, _) => scan.is_over(),
            Self::Translated { events, .. } => events.is_over(),
            Self::Over => true,
        }
    }

    /// Whether a part of the response is not sent because it contains the backend's API key.
    pub(super) fn has_cut_answer(&self) -> bool {
        matches!(self, Self::AsIs(_, Some(filter)) if filter.has_cut_answer())
    }

    /// The response has ended. Calls `out` with the remaining bytes to send, and returns how it ended.
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
