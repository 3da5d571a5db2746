//! Converts a request for Anthropic's messages to a request for OpenAI's chat completions.
//!
//! It enters only the levels that the API defines, so nesting can't exhaust the stack. The request is written member by
//! member and not from structs: so a prompt of megabytes is a slice of the client's request. Used by the relay.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::fault::TranslateError;
use super::{conversation, tools};
use crate::core::formats::anthropic::{Metadata, Request, ThinkingSetting};
use crate::core::json::{Writer, elements, object, parse, spelling};
use crate::messages::ids::ModelId;

/// What a request became.
pub(crate) struct Translated {
    /// The body for the backend, in pieces, the large ones slices of the request.
    pub body: Vec<Bytes>,
    /// The members of the request that were ignored although they may matter to the client. For a warning in the log.
    pub dropped: Vec<&'static str>,
    /// How [`super::MessageEvents`] handles the model's thinking.
    pub thinking: Thinking,
}

/// Whether the client gets the thinking of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// In separate blocks.
    Shown,
    /// Not at all: clients that did not request it read the first block as the answer.
    Hidden,
}

/// The request for chat completions that is equivalent to a messages request, for `model`, as a stream with its usage.
///
/// `top_k` is not a member of OpenAI's own API, but is passed on, because local servers accept it. Numbers are passed on
/// unchecked; the backend checks them.
pub(crate) fn chat_request(messages_request: &Bytes, model: &ModelId) -> Result<Translated, TranslateError> {
    let request: Request<'_> = object(messages_request).ok_or(TranslateError::Malformed)?;
    let model = serde_json::to_string(model).map_err(|_| TranslateError::BadModel)?;
    let mut body = Writer::new(messages_request);
    body.open();
    body.member(br#""model""#, model.as_bytes());
    body.key(br#""messages""#);
    body.open_list();
    conversation::write_system(request.system, &mut body)?;
    conversation::write_messages(request.messages, &mut body)?;
    body.close_list();
    tools::write_tools(request.tools, request.tool_choice, &mut body)?;
    let figures = [
        (br#""max_tokens""#.as_slice(), request.max_tokens),
        (br#""temperature""#, request.temperature),
        (br#""top_p""#, request.top_p),
        (br#""top_k""#, request.top_k),
    ];
    for (key, figure) in figures {
        if let Some(figure) = figure {
            body.member(key, figure.get().as_bytes());
        }
    }
    if let Some(sequences) = request.stop_sequences {
        write_stop(sequences, &mut body)?;
    }
    if let Some(user) = parse::<Metadata<'_>>(request.metadata).and_then(|metadata| metadata.user_id) {
        spelling(user).ok_or(TranslateError::Invalid("metadata.user_id"))?;
        body.member(br#""user""#, user.get().as_bytes());
    }
    body.member(br#""stream""#, b"true");
    body.member(br#""stream_options""#, br#"{"include_usage":true}"#);
    body.close();
    Ok(Translated { body: body.finish(), dropped: dropped(&request), thinking: shown_thinking(&request) })
}

fn write_stop(sequences: &RawValue, body: &mut Writer<'_>) -> Result<(), TranslateError> {
    if !elements(sequences).ok_or(TranslateError::Invalid("stop_sequences"))?.is_empty() {
        body.member(br#""stop""#, sequences.get().as_bytes());
    }
    Ok(())
}

fn shown_thinking(request: &Request<'_>) -> Thinking {
    match parse::<ThinkingSetting<'_>>(request.thinking) {
        Some(setting) if setting.kind != "disabled" => Thinking::Shown,
        _ => Thinking::Hidden,
    }
}

fn dropped(request: &Request<'_>) -> Vec<&'static str> {
    let dropped = [
        ("thinking", shown_thinking(request) == Thinking::Shown),
        ("output_config", request.output_config.is_some()),
        ("output_format", request.output_format.is_some()),
        ("mcp_servers", request.mcp_servers.is_some()),
        ("container", request.container.is_some()),
        ("context_management", request.context_management.is_some()),
    ];
    dropped.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
}
