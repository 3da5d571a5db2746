//! The error bodies that this program writes, in the shapes that the clients of each API read. Bodies of backends are read by
//! `error_body`.

use serde::Serialize;

/// An error body of OpenAI's API: `kind` is the member `type`.
pub fn openai(kind: &str, message: &str, param: Option<&str>, code: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Envelope<'a> {
        error: Detail<'a>,
    }
    #[derive(Serialize)]
    struct Detail<'a> {
        message: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
        param: Option<&'a str>,
        code: Option<&'a str>,
    }
    // Plain data with string keys always serializes.
    serde_json::to_string(&Envelope { error: Detail { message, kind, param, code } }).unwrap_or_default()
}

/// An error body of Anthropic's API: `kind` is the member `type` of the error.
pub fn anthropic(kind: &str, message: &str) -> String {
    #[derive(Serialize)]
    struct Envelope<'a> {
        #[serde(rename = "type")]
        object: &'static str,
        error: Detail<'a>,
    }
    #[derive(Serialize)]
    struct Detail<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        message: &'a str,
    }
    // Plain data with string keys always serializes.
    serde_json::to_string(&Envelope { object: "error", error: Detail { kind, message } }).unwrap_or_default()
}
