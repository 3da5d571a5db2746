//! Converts the turns of a conversation: Anthropic's messages and their content blocks to OpenAI's messages.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::TranslateError;
use crate::core::formats::anthropic::{Block, ImageSource, RequestMessage};
use crate::core::json::{Writer, each, object, spelling};

/// The separator between the texts of blocks that become one text, spelled for JSON.
const BETWEEN_TEXTS: &str = r"\n";
/// Tells the model that a tool failed.
const ERROR_PREFIX: &str = "Error: ";
/// Types of blocks that an error may name.
const UNSUPPORTED: [&str; 5] =
    ["document", "search_result", "server_tool_use", "web_search_tool_result", "container_upload"];

/// Writes the system prompt as the first message, if it is not empty.
pub(super) fn write_system(system: Option<&RawValue>, body: &mut Writer<'_>) -> Result<(), TranslateError> {
    let Some(system) = system else { return Ok(()) };
    let texts = texts_of(system, "system")?;
    if texts.iter().any(|text| !text.is_empty()) {
        open_message(b"\"system\"", body);
        body.key(br#""content""#);
        write_text("", &texts, body);
        body.close();
    }
    Ok(())
}

/// Writes each message as one or more messages.
pub(super) fn write_messages<'a>(messages: Option<&'a RawValue>, body: &mut Writer<'a>) -> Result<(), TranslateError> {
    let invalid = TranslateError::Invalid("messages");
    each(messages.ok_or(invalid)?, invalid, |message| {
        let message: RequestMessage<'_> = parsed(message, "messages")?;
        let content = message.content.ok_or(TranslateError::Invalid("messages.content"))?;
        match message.role {
            "user" => write_user(content, body),
            "assistant" => write_assistant(content, body),
            "system" => write_system(Some(content), body),
            _ => Err(TranslateError::Invalid("messages.role")),
        }
    })
}

/// The results of tools are written first, each as a separate message: they must follow the calls that they answer.
fn write_user<'a>(content: &'a RawValue, body: &mut Writer<'a>) -> Result<(), TranslateError> {
    let mut parts = Vec::new();
    let mut has_results = false;
    each_block(content, "messages.content", |block| match block {
        Content::Text(text) => {
            parts.push(Part::Text(text));
            Ok(())
        }
        Content::Other(block) if block.kind == "image" => {
            parts.push(Part::Image(Image::of(&block)?));
            Ok(())
        }
        Content::Other(block) if block.kind == "tool_result" => {
            has_results = true;
            write_tool_result(&block, &mut parts, body)
        }
        Content::Other(block) => Err(unsupported(&block)),
    })?;
    if parts.is_empty() && has_results {
        return Ok(());
    }
    open_message(b"\"user\"", body);
    body.key(br#""content""#);
    if parts.iter().any(|part| matches!(part, Part::Image(_))) {
        body.open_list();
        for part in &parts {
            part.write(body);
        }
        body.close_list();
    } else {
        let texts = parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(*text) } else { None });
        write_text("", &texts.collect::<Vec<_>>(), body);
    }
    body.close();
    Ok(())
}

/// Writes the message of a tool's result. Its images go to the parts of the user's message.
fn write_tool_result<'a>(
    result: &Block<'a, &'a RawValue>,
    parts: &mut Vec<Part<'a>>,
    body: &mut Writer<'a>,
) -> Result<(), TranslateError> {
    let id = text_member(result.tool_use_id, "tool_result.tool_use_id")?;
    let mut texts = Vec::new();
    if let Some(content) = result.content {
        each_block(content, "tool_result.content", |block| match block {
            Content::Text(text) => {
                texts.push(text);
                Ok(())
            }
            Content::Other(block) if block.kind == "image" => {
                parts.push(Part::Image(Image::of(&block)?));
                Ok(())
            }
            Content::Other(block) => Err(unsupported(&block)),
        })?;
    }
    let is_error = result.is_error.is_some_and(|flag| flag.get() == "true");
    open_message(b"\"tool\"", body);
    body.member(br#""tool_call_id""#, id.get().as_bytes());
    body.key(br#""content""#);
    write_text(if is_error { ERROR_PREFIX } else { "" }, &texts, body);
    body.close();
    Ok(())
}

fn write_assistant<'a>(content: &'a RawValue, body: &mut Writer<'a>) -> Result<(), TranslateError> {
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    each_block(content, "messages.content", |block| match block {
        Content::Text(text) => {
            texts.push(text);
            Ok(())
        }
        Content::Other(block) if block.kind == "tool_use" => {
            calls.push(ToolUse::of(&block)?);
            Ok(())
        }
        Content::Other(Block { kind: "thinking" | "redacted_thinking", .. }) => Ok(()),
        Content::Other(block) => Err(unsupported(&block)),
    })?;
    open_message(b"\"assistant\"", body);
    // Never null: some chat templates print it.
    body.key(br#""content""#);
    write_text("", &texts, body);
    if !calls.is_empty() {
        body.key(br#""tool_calls""#);
        body.open_list();
        for call in &calls {
            call.write(body)?;
        }
        body.close_list();
    }
    body.close();
    Ok(())
}

fn open_message(role: &[u8], body: &mut Writer<'_>) {
    body.element();
    body.open();
    body.member(br#""role""#, role);
}

/// Writes the first members of an object that names a function, and leaves the function's own object open.
pub(super) fn open_function(name: &RawValue, body: &mut Writer<'_>) {
    body.member(br#""type""#, b"\"function\"");
    body.key(br#""function""#);
    body.open();
    body.member(br#""name""#, name.get().as_bytes());
}

/// Writes texts as one, after a prefix that needs no escapes.
fn write_text(prefix: &str, texts: &[&str], body: &mut Writer<'_>) {
    body.text(b"\"");
    body.text(prefix.as_bytes());
    for (n, text) in texts.iter().enumerate() {
        if n > 0 {
            body.text(BETWEEN_TEXTS.as_bytes());
        }
        body.text(text.as_bytes());
    }
    body.text(b"\"");
}

/// The spellings of a text, or of a list of text blocks.
fn texts_of<'a>(content: &'a RawValue, field: &'static str) -> Result<Vec<&'a str>, TranslateError> {
    let mut texts = Vec::new();
    each_block(content, field, |block| match block {
        Content::Text(text) => {
            texts.push(text);
            Ok(())
        }
        Content::Other(block) => Err(unsupported(&block)),
    })?;
    Ok(texts)
}

/// Calls `on_block` with each block of a content. A text alone is one block.
fn each_block<'a>(
    content: &'a RawValue,
    field: &'static str,
    mut on_block: impl FnMut(Content<'a>) -> Result<(), TranslateError>,
) -> Result<(), TranslateError> {
    if let Some(text) = spelling(content) {
        return on_block(Content::Text(text));
    }
    each(content, TranslateError::Invalid(field), |block| {
        let block: Block<'a, &'a RawValue> = parsed(block, field)?;
        if block.kind != "text" {
            return on_block(Content::Other(block));
        }
        let text = block.text.and_then(spelling);
        on_block(Content::Text(text.ok_or(TranslateError::Invalid("text"))?))
    })
}

fn parsed<'a, T: Deserialize<'a>>(value: &'a RawValue, field: &'static str) -> Result<T, TranslateError> {
    object(value.get().as_bytes()).ok_or(TranslateError::Invalid(field))
}

/// A member that must be a text.
pub(super) fn text_member<'a>(
    value: Option<&'a RawValue>,
    field: &'static str,
) -> Result<&'a RawValue, TranslateError> {
    value.filter(|value| spelling(value).is_some()).ok_or(TranslateError::Invalid(field))
}

/// A part of a user's message.
enum Part<'a> {
    /// The spelling of a text.
    Text(&'a str),
    Image(Image<'a>),
}

impl Part<'_> {
    fn write(&self, body: &mut Writer<'_>) {
        body.element();
        body.open();
        match self {
            Self::Text(text) => {
                body.member(br#""type""#, b"\"text\"");
                body.key(br#""text""#);
                write_text("", &[text], body);
            }
            Self::Image(image) => {
                body.member(br#""type""#, b"\"image_url\"");
                body.key(br#""image_url""#);
                body.open();
                body.key(br#""url""#);
                image.write_url(body);
                body.close();
            }
        }
        body.close();
    }
}

/// The spellings of the parts of an image's URL.
enum Image<'a> {
    Data { media_type: &'a str, data: &'a str },
    Url(&'a str),
}

impl<'a> Image<'a> {
    fn of(block: &Block<'a, &'a RawValue>) -> Result<Self, TranslateError> {
        let source: ImageSource<'a> =
            parsed(block.source.ok_or(TranslateError::Invalid("image.source"))?, "image.source")?;
        let text = |value: Option<&'a RawValue>, field| value.and_then(spelling).ok_or(TranslateError::Invalid(field));
        match source.kind {
            "base64" => {
                let media_type = text(source.media_type, "image.source.media_type")?;
                Ok(Self::Data { media_type, data: text(source.data, "image.source.data")? })
            }
            "url" => Ok(Self::Url(text(source.url, "image.source.url")?)),
            _ => Err(TranslateError::UnsupportedImage),
        }
    }

    fn write_url(&self, body: &mut Writer<'_>) {
        let pieces = match self {
            Self::Data { media_type, data } => ["\"data:", media_type, ";base64,", data, "\""],
            Self::Url(url) => ["\"", url, "\"", "", ""],
        };
        for piece in pieces {
            body.text(piece.as_bytes());
        }
    }
}

/// A call that the assistant made.
struct ToolUse<'a> {
    id: &'a RawValue,
    name: &'a RawValue,
    input: Option<&'a RawValue>,
}

impl<'a> ToolUse<'a> {
    fn of(block: &Block<'a, &'a RawValue>) -> Result<Self, TranslateError> {
        if block.input.is_some_and(|input| !input.get().starts_with('{')) {
            return Err(TranslateError::Invalid("tool_use.input"));
        }
        let id = text_member(block.id, "tool_use.id")?;
        Ok(Self { id, name: text_member(block.name, "tool_use.name")?, input: block.input })
    }

    fn write(&self, body: &mut Writer<'_>) -> Result<(), TranslateError> {
        let input = self.input.map_or("{}", RawValue::get);
        let arguments = serde_json::to_string(input).map_err(|_| TranslateError::Invalid("tool_use.input"))?;
        body.element();
        body.open();
        body.member(br#""id""#, self.id.get().as_bytes());
        open_function(self.name, body);
        body.member(br#""arguments""#, arguments.as_bytes());
        body.close();
        body.close();
        Ok(())
    }
}

enum Content<'a> {
    /// The spelling of its text.
    Text(&'a str),
    Other(Block<'a, &'a RawValue>),
}

fn unsupported(block: &Block<'_, &RawValue>) -> TranslateError {
    TranslateError::UnsupportedContent(UNSUPPORTED.into_iter().find(|kind| *kind == block.kind).unwrap_or("content"))
}
