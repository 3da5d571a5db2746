//! How a streamed response ended, and what the backend says it cost.
//!
//! The response is watched, not changed: [`ResponseScan`] sees the bytes that a worker passes on. Only events that carry
//! a mark of what is looked for are parsed. Never anything of a message is kept, for it may quote the prompt.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::sse::{EVENT_LIMIT, Event, SseSplitter};
use crate::messages::backend::Format;
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

/// Error bodies longer than this, in bytes, are not read.
pub const ERROR_BODY_LIMIT: usize = 64 << 10;

/// What an event of OpenAI's format holds if there is anything to read in it. Within a text of the model the quotes
/// would be escaped.
static OPENAI_MARKS: LazyLock<[Finder<'_>; 3]> =
    LazyLock::new(|| ["\"usage\"", "\"timings\"", "\"error\""].map(Finder::new));
/// The same for Anthropic's format.
static ANTHROPIC_MARKS: LazyLock<[Finder<'_>; 3]> =
    LazyLock::new(|| ["message_stop", "\"usage\"", "\"error\""].map(Finder::new));

/// How a response ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The format's end mark came.
    Complete {
        /// What the backend reported, 0 where it did not.
        tokens: Tokens,
    },
    /// The backend reported an error within the stream, whatever came after it.
    Failed(BackendFault),
    /// Neither came: the stream broke off.
    Truncated,
}

/// Watches the body of one streamed response.
pub struct ResponseScan {
    splitter: SseSplitter,
    tally: Tally,
}

impl ResponseScan {
    /// A scan of a response of this format.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { splitter: SseSplitter::new(EVENT_LIMIT), tally: Tally::new(endpoint) }
    }

    /// Takes the next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.splitter.feed(bytes, |event| self.tally.take(event));
    }

    /// Whether the end mark or an error was seen: how the response ends is known, whatever the rest of its body is.
    pub fn is_over(&self) -> bool {
        self.tally.is_complete() || self.tally.fault().is_some()
    }

    /// The body has ended.
    pub fn finish(mut self) -> Ending {
        self.splitter.finish(|event| self.tally.take(event));
        self.tally.ending()
    }
}

/// What the events of one response add up to.
pub struct Tally {
    endpoint: Endpoint,
    complete: bool,
    fault: Option<BackendFault>,
    usage: Usage,
    /// llama.cpp's own figures, which stand in where it was not asked for usage.
    timings: Option<Timings>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, complete: false, fault: None, usage: Usage::default(), timings: None }
    }

    /// Whether the end mark was seen.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes the body of a server that was asked for a stream and answered with one JSON value, which is complete if it
    /// is an object.
    pub fn take_whole(&mut self, body: &[u8]) {
        self.take(Event { name: b"", data: body });
        self.complete = object::<AnyObject>(body).is_some();
    }

    /// The error that the backend reported.
    pub fn fault(&self) -> Option<&BackendFault> {
        self.fault.as_ref()
    }

    /// Takes the next event. Those after the end mark are no part of the response.
    pub fn take(&mut self, event: Event<'_>) {
        if self.complete {
            return;
        }
        match self.endpoint.format() {
            Format::OpenAi => self.take_openai(event),
            Format::Anthropic => self.take_anthropic(event),
        }
    }

    /// What the backend has reported so far, 0 where it has not.
    pub fn tokens(&self) -> Tokens {
        let timings = self.timings.filter(|_| self.usage.is_empty());
        let usage = timings.map_or(self.usage, Timings::usage);
        Tokens::new(usage.input.unwrap_or(0), usage.output.unwrap_or(0))
    }

    /// How it ends if no more comes.
    pub fn ending(self) -> Ending {
        if let Some(fault) = self.fault {
            return Ending::Failed(fault);
        }
        if !self.complete {
            return Ending::Truncated;
        }
        Ending::Complete { tokens: self.tokens() }
    }

    fn take_openai(&mut self, event: Event<'_>) {
        if event.data.trim_ascii() == b"[DONE]" {
            self.complete = true;
        } else if event.name == b"error" {
            self.fail(event.data);
        } else if has_any(&*OPENAI_MARKS, event.data) {
            let Some(chunk) = object::<OpenAiChunk<'_>>(event.data) else { return };
            if chunk.error.is_some() || is_text(chunk.object, "error") {
                self.fail(event.data);
            }
            let usage = parse::<OpenAiUsage>(chunk.usage);
            if let Some(OpenAiUsage { prompt_tokens: Count(input), completion_tokens: Count(output) }) = usage {
                let usage = Usage { input, output };
                if !usage.is_empty() {
                    self.usage = usage;
                }
            }
            self.timings = parse(chunk.timings).or(self.timings);
        }
    }

    fn take_anthropic(&mut self, event: Event<'_>) {
        if event.name == b"error" {
            self.fail(event.data);
        } else if has_any(&*ANTHROPIC_MARKS, event.data) {
            let Some(body) = object::<AnthropicEvent<'_>>(event.data) else { return };
            if body.error.is_some() || is_text(body.kind, "error") {
                self.fail(event.data);
            } else if is_text(body.kind, "message_stop") {
                self.complete = true;
            } else if is_text(body.kind, "message_start") {
                let message = parse::<AnthropicMessage<'_>>(body.message);
                self.add_anthropic(message.and_then(|message| message.usage));
            } else if is_text(body.kind, "message_delta") || is_text(body.kind, "message") {
                self.add_anthropic(body.usage);
            }
        }
    }

    /// Each figure is the last one reported: servers differ in which event carries it.
    fn add_anthropic(&mut self, usage: Option<&RawValue>) {
        if let Some(AnthropicUsage { input_tokens: Count(input), output_tokens: Count(output) }) = parse(usage) {
            self.usage = Usage { input: input.or(self.usage.input), output: output.or(self.usage.output) };
        }
    }

    fn fail(&mut self, data: &[u8]) {
        self.fault.get_or_insert_with(|| BackendFault::from_body(data));
    }
}

/// An error that a backend reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFault {
    /// Its `code` or `type`, if that is a label of 1 to 64 letters, digits, `_`, `.` and `-`. Never its message, which
    /// may quote the prompt.
    pub label: Option<String>,
}

impl BackendFault {
    /// Reads the JSON body of an error response: OpenAI's `error`, Anthropic's wrapper around it, vLLM's bare error
    /// object, or FastAPI's `detail`. A body of another shape, or of more than [`ERROR_BODY_LIMIT`], has no label.
    pub fn from_body(body: &[u8]) -> Self {
        let body = Some(body).filter(|body| body.len() <= ERROR_BODY_LIMIT).and_then(object::<ErrorBody<'_>>);
        Self { label: body.and_then(|body| body.label()) }
    }

    /// Whether the label is one by which servers say that they have no such model. With a status other than 404 or
    /// 400 it may mean something else.
    pub fn is_model_missing(&self) -> bool {
        const LABELS: [&str; 8] = [
            "model_not_found",
            "model_not_loaded",
            "not_found_error",
            "not_found",
            "NotFoundError",
            "ModelNotFoundError",
            "ModelNotFound",
            "DeploymentNotFound",
        ];
        self.label.as_deref().is_some_and(|label| LABELS.contains(&label))
    }
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

impl ErrorBody<'_> {
    fn label(&self) -> Option<String> {
        if self.error.is_some() {
            return parse::<ErrorBody<'_>>(self.error)?.own_label();
        }
        if self.detail.is_some() {
            // An object of the server's own, or a list of what is wrong with the request.
            let list = self.detail.and_then(|detail| serde_json::from_str::<Vec<&RawValue>>(detail.get()).ok());
            let first = list.and_then(|faults| faults.first().copied());
            let detail = parse::<ErrorBody<'_>>(first.or(self.detail))?;
            return match detail.error {
                Some(error) => parse::<ErrorBody<'_>>(Some(error))?.own_label(),
                None => detail.own_label(),
            };
        }
        self.own_label()
    }

    /// A code that says more than a number, else the type, else the number.
    fn own_label(&self) -> Option<String> {
        let code = label_of(self.code);
        let is_number = code.as_ref().is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        if is_number { label_of(self.kind).or(code) } else { code.or_else(|| label_of(self.kind)) }
    }
}

fn label_of(value: Option<&RawValue>) -> Option<String> {
    let text = value?.get();
    let label = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    // Without quotes only a number is a label; `null`, `true` and what has brackets is none.
    let label = label.or_else(|| text.starts_with(|first: char| first.is_ascii_digit()).then_some(text))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    ((1..=64).contains(&label.len()) && label.bytes().all(allowed)).then(|| label.to_owned())
}

#[derive(Deserialize)]
struct OpenAiChunk<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    timings: Option<&'a RawValue>,
}

/// Any JSON object: members that a struct does not name are skipped, and must be well formed.
#[derive(Deserialize)]
struct AnyObject {}

#[derive(Deserialize)]
struct OpenAiUsage {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
}

#[derive(Clone, Copy, Deserialize)]
struct Timings {
    #[serde(default)]
    cache_n: Count,
    #[serde(default)]
    prompt_n: Count,
    #[serde(default)]
    predicted_n: Count,
}

impl Timings {
    fn usage(self) -> Usage {
        let input = self.cache_n.0.unwrap_or(0).saturating_add(self.prompt_n.0.unwrap_or(0));
        Usage { input: Some(input), output: self.predicted_n.0 }
    }
}

#[derive(Deserialize)]
struct AnthropicEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AnthropicMessage<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AnthropicUsage {
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    output_tokens: Count,
}

#[derive(Clone, Copy, Default)]
struct Usage {
    input: Option<u64>,
    output: Option<u64>,
}

impl Usage {
    fn is_empty(self) -> bool {
        self.input.is_none() && self.output.is_none()
    }
}

/// A count of tokens; none where the member is anything but an integer of 0 or more.
#[derive(Clone, Copy, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|value| Self(value.get().parse().ok()))
    }
}

fn has_any(marks: &[Finder<'_>], data: &[u8]) -> bool {
    marks.iter().any(|mark| mark.find(data).is_some())
}

/// Reads a struct from a JSON object; serde alone would also take an array.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

/// The same for a member that may be missing.
pub(super) fn parse<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    object(value?.get().as_bytes())
}

/// Whether a value is this text, spelled without escapes.
pub(crate) fn is_text(value: Option<&RawValue>, text: &str) -> bool {
    value.is_some_and(|value| value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) == Some(text))
}

#[cfg(test)]
mod tests;
