//! Which tools may be offered to the model: those that the client runs. A tool that the backend's side runs (a web search,
//! a code interpreter, an MCP server) costs more than tokens, or calls servers that the client chose.

use std::ops::ControlFlow;

use super::PolicyError;
use super::names::folded;
use crate::core::json::{Scanner, walk};
use crate::messages::endpoint::Endpoint;

/// The members of a tool of chat completions. LiteLLM reads `googleSearch`, `urlContext` and similar ones as Google's
/// tools, whatever the tool's type is.
const CHAT_TOOL: [&[u8]; 5] = [b"type", b"function", b"custom", b"strict", b"cache_control"];

/// Checks the value of `tools`. `strict`: a tool of chat completions may have no members except those of the API, because
/// others can change who runs it.
pub(super) fn check(tools: &[u8], endpoint: Endpoint, strict: bool) -> Result<(), PolicyError> {
    if tools == b"null" {
        return Ok(());
    }
    let mut checked = Ok(());
    let walked = Scanner::new(tools).list(|tool| {
        checked = check_tool(tool, endpoint, strict);
        if checked.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    walked.map_err(|_| PolicyError::BadTools)?;
    checked
}

fn check_tool(tool: &[u8], endpoint: Endpoint, strict: bool) -> Result<(), PolicyError> {
    let (mut is_clients, mut is_described) = (true, false);
    walk(tool, |key, value| {
        let name = folded(key);
        match &*name {
            b"type" => is_clients &= is_client_type(value, endpoint),
            b"function" | b"name" => is_described = true,
            _ => {}
        }
        if strict && endpoint == Endpoint::ChatCompletions {
            is_clients &= CHAT_TOOL.contains(&&*name);
        }
        is_described |= &*name == b"type";
    })
    .map_err(|_| PolicyError::BadTools)?;
    // A tool with neither a type nor a function is a provider's own kind of tool.
    if is_clients && is_described { Ok(()) } else { Err(PolicyError::ServerTool) }
}

fn is_client_type(value: &[u8], endpoint: Endpoint) -> bool {
    if value == b"null" {
        return true;
    }
    let Ok(kind) = serde_json::from_slice::<String>(value) else { return false };
    match endpoint {
        // The client runs the last four; their names end in a date.
        Endpoint::Messages => {
            kind == "custom"
                || ["bash_", "text_editor_", "computer_", "memory_"].iter().any(|client| kind.starts_with(client))
        }
        Endpoint::Responses => matches!(kind.as_str(), "function" | "custom" | "local_shell"),
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => {
            matches!(kind.as_str(), "function" | "custom")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: &str = r#"{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}"#;

    fn chat(tools: &str, strict: bool) -> Result<(), PolicyError> {
        check(tools.as_bytes(), Endpoint::ChatCompletions, strict)
    }

    #[test]
    fn functions_are_allowed_at_every_endpoint() {
        for strict in [true, false] {
            for tools in ["null", "[]", r#"[{"function":{}}]"#, &format!("[{FUNCTION}, {FUNCTION}]")] {
                assert_eq!(chat(tools, strict), Ok(()), "{tools}");
            }
        }
        for (endpoint, tools) in [
            (Endpoint::Messages, r#"[{"name":"f","input_schema":{},"cache_control":{}}]"#),
            (Endpoint::Messages, r#"[{"type":"custom","name":"f"},{"type":"bash_20250124","name":"bash"}]"#),
            (Endpoint::Messages, r#"[{"type":null,"name":"f"}]"#),
            (Endpoint::Responses, r#"[{"type":"function","name":"f","parameters":{}},{"type":"local_shell"}]"#),
            (Endpoint::Responses, r#"[{"type":"custom","name":"f","format":{}}]"#),
        ] {
            assert_eq!(check(tools.as_bytes(), endpoint, true), Ok(()), "{tools}");
        }
    }

    #[test]
    fn a_tool_that_the_backends_side_runs_is_refused() {
        for (endpoint, tools) in [
            (Endpoint::ChatCompletions, r#"[{"type":"openrouter:web_search"}]"#),
            (Endpoint::ChatCompletions, r#"[{"googleSearch":{}}]"#),
            (Endpoint::ChatCompletions, r#"[{"type":"function","type":"mcp"}]"#),
            (Endpoint::ChatCompletions, r#"[{"type":"mcp","type":"function"}]"#),
            (Endpoint::ChatCompletions, r#"[{"\u0074ype":"m\u0063p","server_url":"http://10.0.0.1"}]"#),
            (Endpoint::ChatCompletions, r#"[{"TYPE":"mcp","type":"function"}]"#),
            (Endpoint::ChatCompletions, r#"[{"type":7}]"#),
            (Endpoint::Responses, r#"[{"type":"function","name":"f"},{"type":"web_search_preview"}]"#),
            (Endpoint::Responses, r#"[{"type":"mcp","server_url":"http://169.254.169.254"}]"#),
            (Endpoint::Responses, r#"[{"type":"code_interpreter","container":{}}]"#),
            (Endpoint::Messages, r#"[{"type":"web_search_20250305","name":"web_search"}]"#),
            (Endpoint::Messages, r#"[{"type":"code_execution_20250825","name":"x"}]"#),
        ] {
            assert_eq!(check(tools.as_bytes(), endpoint, false), Err(PolicyError::ServerTool), "{tools}");
        }
        let hidden = r#"[{"type":"function","function":{"name":"f"},"googleSearch":{}}]"#;
        assert_eq!((chat(hidden, true), chat(hidden, false)), (Err(PolicyError::ServerTool), Ok(())));
    }

    #[test]
    fn a_value_that_is_not_a_list_of_objects_is_refused() {
        for tools in ["{}", "\"mcp\"", "[7]", "[null]", r#"["mcp"]"#] {
            assert_eq!(chat(tools, false), Err(PolicyError::BadTools), "{tools}");
        }
    }
}
