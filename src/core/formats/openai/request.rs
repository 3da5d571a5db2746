//! A request for a chat completion, as far as this program itself writes or answers one. Requests that are relayed are not
//! parsed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A request for a chat completion.
#[derive(Deserialize, Serialize)]
pub(crate) struct ChatRequest<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) messages: Vec<RequestMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream_options: Option<StreamOptions>,
}

/// A message of the conversation.
#[derive(Deserialize, Serialize)]
pub(crate) struct RequestMessage<'a> {
    #[serde(borrow)]
    pub(crate) role: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) content: Option<Content<'a>>,
}

/// The content of a message.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(#[serde(borrow)] Vec<ContentPart<'a>>),
}

/// A part of a message. One that is not a text has none.
#[derive(Deserialize, Serialize)]
pub(crate) struct ContentPart<'a> {
    #[serde(borrow)]
    pub(crate) text: Option<Cow<'a, str>>,
}

/// How a response is streamed.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
pub(crate) struct StreamOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) include_usage: Option<bool>,
}

impl RequestMessage<'_> {
    /// The texts of the message, joined by spaces.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match &self.content {
            None => Cow::Borrowed(""),
            Some(Content::Text(text)) => Cow::Borrowed(text),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join(" ").into()
            }
        }
    }
}
