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
    AsIs(Box<ResponseScan>),
    /// The same, without events that contain the backend's API key.
    Filtered(Box<ResponseScan>, Box<KeyFilter>),
    /// Chat completions that are sent as Anthropic's events.
    Translated(Box<MessageEvents>),
    /// The end was asked for.
    Over,
}

impl Watch {
    /// A stream of this endpoint that is sent as it comes.
    pub(super) fn as_is(endpoint: Endpoint, key: Option<Arc<KeyTrace>>) -> Self {
        let scan = Box::new(ResponseScan::new(endpoint));
        match key {
            None => Self::AsIs(scan),
            Some(key) => Self::Filtered(scan, Box::new(KeyFilter::new(key))),
        }
    }

    /// Translates.
    pub(super) fn translated(events: Box<MessageEvents>) -> Self {
        Self::Translated(events)
    }

    /// Takes the next bytes of the response and returns those to send for them: the same, or what it made of them in `made`.
    pub(super) fn pass<'a>(&mut self, bytes: &'a [u8], made: &'a mut BytesMut) -> &'a [u8] {
        made.clear();
        match self {
            Self::AsIs(scan) => {
                scan.feed(bytes);
                return bytes;
            }
            Self::Filtered(scan, filter) => {
                let may_be_error = |piece: &[u8]| {
                    let was_over = scan.is_over();
                    scan.feed(piece);
                    was_over || scan.has_failed()
                };
                filter.feed(bytes, may_be_error, |bytes| made.extend_from_slice(bytes));
            }
            Self::Translated(events) => events.feed(bytes, made),
            Self::Over => {}
        }
        made
    }

    /// Whether how the response ends is known.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::AsIs(scan) | Self::Filtered(scan, _) => scan.is_over(),
            Self::Translated(events) => events.is_over(),
            Self::Over => true,
        }
    }

    /// The backend's events so far: about one a token.
    pub(super) fn events(&self) -> u64 {
        match self {
            Self::AsIs(scan) | Self::Filtered(scan, _) => scan.events(),
            Self::Translated(events) => events.events(),
            Self::Over => 0,
        }
    }

    /// Whether a part of the answer is not sent because it contains the backend's API key.
    pub(super) fn has_cut_answer(&self) -> bool {
        matches!(self, Self::Filtered(_, filter) if filter.has_cut_answer())
    }

    /// The response has ended. How, with what is left to be sent in `made`.
    pub(super) fn finish(&mut self, made: &mut BytesMut) -> Ending {
        made.clear();
        match std::mem::replace(self, Self::Over) {
            Self::AsIs(scan) => scan.finish(),
            Self::Filtered(scan, filter) => {
                let ending = scan.finish();
                let is_complete = matches!(ending, Ending::Complete { .. });
                filter.finish(is_complete, |bytes| made.extend_from_slice(bytes));
                ending
            }
            Self::Translated(events) => events.finish(made),
            Self::Over => Ending::Truncated,
        }
    }
}
