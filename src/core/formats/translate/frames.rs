//! Anthropic's events as bytes, with numbered content blocks, each closed before the next one opens.

use bytes::BytesMut;

/// The kinds of generated text, in addition to tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// The answer.
    Text,
    /// The thinking before it.
    Thinking,
}

/// The known usage of a message.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    /// Prompt tokens as the backend counts them, including cached ones.
    pub(super) input: u64,
    /// Generated tokens.
    pub(super) output: u64,
    /// Cached prompt tokens, if the backend reports them.
    pub(super) cached: Option<u64>,
}

impl Usage {
    /// As Anthropic counts: the prompt without its cached part.
    fn json(self) -> String {
        let Self { input, output, cached } = self;
        let cached = cached.map(|cached| cached.min(input));
        let input = input - cached.unwrap_or(0);
        let cached = cached.map_or_else(String::new, |cached| format!(r#","cache_read_input_tokens":{cached}"#));
        format!(r#"{{"input_tokens":{input}{cached},"output_tokens":{output}}}"#)
    }
}

/// The content blocks of one message. All texts that it gets are spelled for JSON.
#[derive(Default)]
pub(super) struct Blocks {
    open: Option<Open>,
    /// The index of the open block, or else of the next one.
    index: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Generated(Voice),
    Tool,
}

impl Blocks {
    /// Continues the block of this kind, or begins one.
    pub(super) fn say(&mut self, voice: Voice, spelling: &str, out: &mut BytesMut) {
        if spelling.is_empty() {
            return;
        }
        if self.open != Some(Open::Generated(voice)) {
            let block = match voice {
                Voice::Text => r#"{"type":"text","text":""}"#,
                Voice::Thinking => r#"{"type":"thinking","thinking":"","signature":""}"#,
            };
            self.begin(Open::Generated(voice), &[block], out);
        }
        let delta = match voice {
            Voice::Text => r#"{"type":"text_delta","text":""#,
            Voice::Thinking => r#"{"type":"thinking_delta","thinking":""#,
        };
        self.delta(delta, spelling, out);
    }

    /// Begins the block of a tool call.
    pub(super) fn begin_tool(&mut self, id: &str, name: &str, out: &mut BytesMut) {
        let block = [r#"{"type":"tool_use","id":""#, id, r#"","name":""#, name, r#"","input":{}}"#];
        self.begin(Open::Tool, &block, out);
    }

    /// Continues the open tool call.
    pub(super) fn tool_input(&mut self, spelling: &str, out: &mut BytesMut) {
        if !spelling.is_empty() {
            self.delta(r#"{"type":"input_json_delta","partial_json":""#, spelling, out);
        }
    }

    /// Closes the open block, if there is one.
    pub(super) fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            let index = self.index.to_string();
            frame("content_block_stop", &[r#","index":"#, &index], out);
            self.index += 1;
        }
    }

    fn begin(&mut self, open: Open, block: &[&str], out: &mut BytesMut) {
        self.close(out);
        self.open = Some(open);
        let index = self.index.to_string();
        let pieces = [&[r#","index":"#, &index, r#","content_block":"#], block].concat();
        frame("content_block_start", &pieces, out);
    }

    fn delta(&self, delta: &str, spelling: &str, out: &mut BytesMut) {
        let index = self.index.to_string();
        frame("content_block_delta", &[r#","index":"#, &index, r#","delta":"#, delta, spelling, r#""}"#], out);
    }
}

/// The event that begins a message. `id` is spelled for JSON, `model` is JSON.
pub(super) fn message_start(id: &str, model: &str, usage: Usage, out: &mut BytesMut) {
    let usage = usage.json();
    let pieces = [
        r#","message":{"id":""#,
        id,
        r#"","type":"message","role":"assistant","content":[],"model":"#,
        model,
        r#","stop_reason":null,"stop_sequence":null,"usage":"#,
        &usage,
        "}",
    ];
    frame("message_start", &pieces, out);
}

/// The events that end a message. `stop_sequence` is JSON.
pub(super) fn message_end(stop_reason: &str, stop_sequence: &str, usage: Usage, out: &mut BytesMut) {
    let usage = usage.json();
    let pieces =
        [r#","delta":{"stop_reason":""#, stop_reason, r#"","stop_sequence":"#, stop_sequence, r#"},"usage":"#, &usage];
    frame("message_delta", &pieces, out);
    frame("message_stop", &[], out);
}

/// The event that ends a stream with an error. `error` is the JSON of an error body.
pub(super) fn error(error: &[u8], out: &mut BytesMut) {
    for piece in [b"event: error\ndata: ".as_slice(), error, b"\n\n"] {
        out.extend_from_slice(piece);
    }
}

/// One event, whose data are its type and then `members`.
fn frame(kind: &str, members: &[&str], out: &mut BytesMut) {
    let head = ["event: ", kind, "\ndata: {\"type\":\"", kind, "\""];
    for piece in head.iter().chain(members).chain(&["}\n\n"]) {
        out.extend_from_slice(piece.as_bytes());
    }
}
