//! A request for a message.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::json::word;

/// A request for a message. The members are what is translated, and what a warning may name.
#[derive(Deserialize)]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) messages: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) system: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) tools: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) temperature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) top_p: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) top_k: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) stop_sequences: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) output_config: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) output_format: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) mcp_servers: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) container: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) context_management: Option<&'a RawValue>,
}

/// A message of the conversation.
#[derive(Deserialize)]
pub(crate) struct RequestMessage<'a> {
    #[serde(borrow, default, deserialize_with = "word")]
    pub(crate) role: &'a str,
    #[serde(borrow)]
    pub(crate) content: Option<&'a RawValue>,
}

/// Where an image is.
#[derive(Deserialize)]
pub(crate) struct ImageSource<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(borrow)]
    pub(crate) media_type: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) url: Option<&'a RawValue>,
}

/// A tool. One without a type is one that the client runs.
#[derive(Deserialize)]
pub(crate) struct Tool<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(borrow)]
    pub(crate) name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) description: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) input_schema: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) strict: Option<&'a RawValue>,
}

/// Which tool the model has to call.
#[derive(Deserialize)]
pub(crate) struct ToolChoice<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
    #[serde(borrow)]
    pub(crate) name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) disable_parallel_tool_use: Option<&'a RawValue>,
}

/// What the client tells about the request.
#[derive(Deserialize)]
pub(crate) struct Metadata<'a> {
    #[serde(borrow)]
    pub(crate) user_id: Option<&'a RawValue>,
}

/// Whether the model thinks before it answers.
#[derive(Deserialize)]
pub(crate) struct ThinkingSetting<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "word")]
    pub(crate) kind: &'a str,
}
