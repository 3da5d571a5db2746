//! A content block of a message, in a request or in a response: one struct for all types, because a tagged enum of serde
//! would copy each block before it is read.

use serde::{Deserialize, Serialize};

use crate::core::json::word;

/// A content block. Its type decides which members it has.
#[derive(Deserialize, Serialize)]
pub(crate) struct Block<'a, V> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word", skip_serializing_if = "str::is_empty")]
    pub(crate) kind: &'a str,
    /// Of a tool call: its id, the tool's name and its input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<V>,
    /// Of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) citations: Option<V>,
    /// Of thinking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<V>,
    /// Of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<V>,
    /// Of the result of a tool: the id of its call, the content, and whether it is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_use_id: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_error: Option<V>,
}

impl<'a, V> Block<'a, V> {
    /// A block of this type without members.
    pub(crate) fn new(kind: &'a str) -> Self {
        Self {
            kind,
            id: None,
            name: None,
            input: None,
            text: None,
            citations: None,
            thinking: None,
            signature: None,
            source: None,
            tool_use_id: None,
            content: None,
            is_error: None,
        }
    }
}
