//! The events of a message that is streamed: one struct for all types, because a tagged enum of serde would copy each event
//! before it is read.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::core::json::word;

/// An event. Its type decides which members it has. `P` is what it is about: the message, the content block or the delta.
/// `U` is its usage.
#[derive(Deserialize, Serialize)]
pub(crate) struct Event<'a, P, U> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<P>,
    /// Which content block it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_block: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<U>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<U>,
}

impl<'a, P, U> Event<'a, P, U> {
    /// An event of this type without members.
    pub(crate) fn new(kind: &'a str) -> Self {
        Self { kind, message: None, index: None, content_block: None, delta: None, usage: None, error: None }
    }
}

/// What an event, or a whole message, reports about the response.
///
/// Declared apart from [`Event`] because every response is scanned for it: a member of an unexpected type, one that is there
/// twice, or a text that is not UTF-8 hides no usage and no end.
#[derive(Deserialize)]
pub(crate) struct EventReport<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) usage: Option<&'a RawValue>,
}

/// The same of a message that begins.
#[derive(Deserialize)]
pub(crate) struct MessageReport<'a> {
    #[serde(borrow)]
    pub(crate) usage: Option<&'a RawValue>,
}

/// The next part of a content block. Its type decides which member it has.
#[derive(Deserialize, Serialize)]
pub(crate) struct BlockDelta<'a, V> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) citation: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partial_json: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<V>,
}

impl<'a, V> BlockDelta<'a, V> {
    /// A delta of this type without members.
    pub(crate) fn new(kind: &'a str) -> Self {
        Self { kind, text: None, citation: None, partial_json: None, thinking: None, signature: None }
    }
}

/// Why a message stopped, at its end. Null is written where it is not known.
#[derive(Deserialize, Serialize)]
pub(crate) struct MessageDelta<V> {
    pub(crate) stop_reason: Option<V>,
    pub(crate) stop_sequence: Option<V>,
}
