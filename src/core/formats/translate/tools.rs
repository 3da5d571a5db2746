//! Converts tools and the choice among them: Anthropic's definitions to OpenAI's functions.

use serde_json::value::RawValue;

use super::conversation::{open_function, text_member};
use super::fault::TranslateError;
use crate::core::formats::anthropic::{Tool, ToolChoice};
use crate::core::json::{Writer, each, object};

/// Writes the tools and the choice among them. An empty list of tools is left out, because many servers refuse it.
pub(super) fn write_tools(
    tools: Option<&RawValue>,
    choice: Option<&RawValue>,
    body: &mut Writer<'_>,
) -> Result<(), TranslateError> {
    let mut has_tools = false;
    if let Some(tools) = tools {
        each(tools, TranslateError::Invalid("tools"), |tool| {
            if !std::mem::replace(&mut has_tools, true) {
                body.key(br#""tools""#);
                body.open_list();
            }
            write_tool(tool, body)
        })?;
    }
    if has_tools {
        body.close_list();
    }
    choice.map_or(Ok(()), |choice| write_choice(choice, has_tools, body))
}

fn write_tool(tool: &RawValue, body: &mut Writer<'_>) -> Result<(), TranslateError> {
    let tool: Tool<'_> = object(tool.get().as_bytes()).ok_or(TranslateError::Invalid("tools"))?;
    if !matches!(tool.kind, "" | "custom") {
        return Err(TranslateError::UnsupportedTool);
    }
    body.element();
    body.open();
    open_function(text_member(tool.name, "tools.name")?, body);
    let others = [
        (br#""description""#.as_slice(), tool.description),
        (br#""parameters""#, tool.input_schema),
        (br#""strict""#, tool.strict),
    ];
    for (key, value) in others {
        if let Some(value) = value {
            body.member(key, value.get().as_bytes());
        }
    }
    body.close();
    body.close();
    Ok(())
}

/// Without tools, a choice of no tool is left out like the empty list.
fn write_choice(choice: &RawValue, has_tools: bool, body: &mut Writer<'_>) -> Result<(), TranslateError> {
    let invalid = TranslateError::Invalid("tool_choice");
    let choice: ToolChoice<'_> = object(choice.get().as_bytes()).ok_or(invalid)?;
    if !has_tools {
        return if matches!(choice.kind, "auto" | "none") { Ok(()) } else { Err(invalid) };
    }
    body.key(br#""tool_choice""#);
    match choice.kind {
        "auto" => body.text(b"\"auto\""),
        "any" => body.text(b"\"required\""),
        "none" => body.text(b"\"none\""),
        "tool" => {
            body.open();
            open_function(text_member(choice.name, "tool_choice.name")?, body);
            body.close();
            body.close();
        }
        _ => return Err(invalid),
    }
    if choice.disable_parallel_tool_use.is_some_and(|flag| flag.get() == "true") {
        body.member(br#""parallel_tool_calls""#, b"false");
    }
    Ok(())
}
