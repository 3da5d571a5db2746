//! How a response ended, and what the backend says it cost.
//!
//! The response is watched, not changed: [`ResponseScan`] sees the bytes that a worker passes on. Only events that carry
//! a mark of what is looked for are parsed. Never anything of a message is kept, for it may quote the prompt.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use self::abridged::Abridged;
use self::figures::{AnthropicEvent, AnthropicMessage, AnyObject, OpenAiChunk, ResponseBody, ResponsesEvent, Usage};
use super::sse::{EVENT_LIMIT, Event, Part, SseSplitter};
use crate::core::json::{is_text, object, parse};
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

mod abridged;
mod fault;
mod figures;

pub use fault::BackendFault;

/// What an event of completions holds if there is anything to read in it. Within a text of the model the quotes would
/// be escaped.
static OPENAI_MARKS: LazyLock<[Finder<'_>; 3]> =
    LazyLock::new(|| ["\"usage\"", "\"timings\"", "\"error\""].map(Finder::new));
/// The same for messages.
static ANTHROPIC_MARKS: LazyLock<[Finder<'_>; 3]> =
    LazyLock::new(|| ["message_stop", "\"usage\"", "\"error\""].map(Finder::new));
/// The same for responses.
static RESPONSES_MARKS: LazyLock<[Finder<'_>; 4]> =
    LazyLock::new(|| ["response.completed", "response.incomplete", "response.failed", "\"error\""].map(Finder::new));

/// How a response ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The end mark of its endpoint came.
    Complete {
        /// What the backend reported, 0 where it did not.
        tokens: Tokens,
    },
    /// The backend reported an error within the stream, whatever came after it.
    Failed(BackendFault),
    /// Neither came: the stream broke off.
    Truncated,
    /// Neither came in what could be read: an event was too long, and the body ended behind it.
    Unread,
}

/// Watches the body of one streamed response. It keeps at most [`EVENT_LIMIT`] of it: of a longer event it reads what
/// tells of an end, an error or a cost, as it comes.
pub struct ResponseScan {
    splitter: SseSplitter,
    tally: Tally,
    /// The long event that has begun.
    long: Option<Box<Abridged>>,
}

impl ResponseScan {
    /// A scan of a response of this endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { splitter: SseSplitter::new(EVENT_LIMIT), tally: Tally::new(endpoint), long: None }
    }

    /// Takes the next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { splitter, tally, long } = self;
        splitter.feed_parts(bytes, |part| take_part(part, tally, long));
    }

    /// Whether the end mark or an error was seen: how the response ends is known, whatever the rest of its body is.
    pub fn is_over(&self) -> bool {
        self.tally.is_complete() || self.tally.fault().is_some()
    }

    /// Whether the backend has reported an error.
    pub fn has_failed(&self) -> bool {
        self.tally.fault().is_some()
    }

    /// The body has ended.
    pub fn finish(mut self) -> Ending {
        let Self { splitter, tally, long } = &mut self;
        splitter.finish_parts(|part| take_part(part, tally, long));
        self.tally.ending()
    }
}

/// Watches one JSON body that is too long to be held.
pub struct LongBodyScan {
    endpoint: Endpoint,
    abridged: Abridged,
}

impl LongBodyScan {
    /// A scan of the body of an answer of this endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, abridged: Abridged::new() }
    }

    /// Takes the next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.abridged.feed(bytes);
    }

    /// The body has ended.
    pub fn finish(self) -> Ending {
        let mut tally = Tally::new(self.endpoint);
        tally.take_whole(&self.abridged.finish().unwrap_or_default());
        tally.ending()
    }
}

fn take_part(part: Part<'_>, tally: &mut Tally, long: &mut Option<Box<Abridged>>) {
    match part {
        Part::Event(event) => tally.take(event),
        Part::Long(piece) => long.get_or_insert_with(|| Box::new(Abridged::new())).feed(piece),
        Part::LongEnd(name) => match long.take().and_then(|long| long.finish()) {
            Some(data) => tally.take(Event { name, data: &data, follows_gap: false }),
            None => tally.miss(name),
        },
    }
}

/// What the events of one response add up to.
pub struct Tally {
    endpoint: Endpoint,
    complete: bool,
    fault: Option<BackendFault>,
    usage: Usage,
    /// llama.cpp's own figures, which stand in where it was not asked for usage.
    timings: Option<Usage>,
    /// An event could not be read: it may have been the end mark.
    missed: bool,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, complete: false, fault: None, usage: Usage::default(), timings: None, missed: false }
    }

    /// Whether the end mark was seen.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The error that the backend reported.
    pub fn fault(&self) -> Option<&BackendFault> {
        self.fault.as_ref()
    }

    /// Takes the body of an answer that is one JSON value and no stream. It is complete if it is an object.
    pub fn take_whole(&mut self, body: &[u8]) {
        if self.endpoint == Endpoint::Responses {
            self.take_response(body);
        } else {
            self.take(Event { name: b"", data: body, follows_gap: false });
        }
        self.complete = object::<AnyObject>(body).is_some();
    }

    /// Takes the next event. Those after the end mark are no part of the response.
    pub fn take(&mut self, event: Event<'_>) {
        if self.complete {
            return;
        }
        if event.name == b"error" {
            return self.fail(event.data);
        }
        match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => self.take_openai(event.data),
            Endpoint::Responses => self.take_responses(event.data),
            Endpoint::Messages => self.take_anthropic(event.data),
        }
    }

    /// An event of this name was too long and could not be read.
    fn miss(&mut self, name: &[u8]) {
        self.missed |= !self.complete;
        if name == b"error" && !self.complete {
            self.fail(b"");
        }
    }

    /// What the backend has reported so far, 0 where it has not.
    pub fn tokens(&self) -> Tokens {
        self.timings.filter(|_| self.usage.is_empty()).unwrap_or(self.usage).tokens()
    }

    /// How it ends if no more comes.
    pub fn ending(self) -> Ending {
        if let Some(fault) = self.fault {
            return Ending::Failed(fault);
        }
        if !self.complete {
            return if self.missed { Ending::Unread } else { Ending::Truncated };
        }
        Ending::Complete { tokens: self.tokens() }
    }

    fn take_openai(&mut self, data: &[u8]) {
        if data.trim_ascii() == b"[DONE]" {
            self.complete = true;
        } else if has_any(&*OPENAI_MARKS, data) {
            let Some(chunk) = object::<OpenAiChunk<'_>>(data) else { return };
            if chunk.error.is_some() || is_text(chunk.object, "error") {
                self.fail(data);
            }
            let usage = Usage::of_prompt(chunk.usage);
            if !usage.is_empty() {
                self.usage = usage;
            }
            self.timings = Usage::of_timings(chunk.timings).or(self.timings);
        }
    }

    fn take_anthropic(&mut self, data: &[u8]) {
        if !has_any(&*ANTHROPIC_MARKS, data) {
            return;
        }
        let Some(body) = object::<AnthropicEvent<'_>>(data) else { return };
        if body.error.is_some() || is_text(body.kind, "error") {
            self.fail(data);
        } else if is_text(body.kind, "message_stop") {
            self.complete = true;
        } else if is_text(body.kind, "message_start") {
            let message = parse::<AnthropicMessage<'_>>(body.message);
            self.add(Usage::of_message(message.and_then(|message| message.usage)));
        } else if is_text(body.kind, "message_delta") || is_text(body.kind, "message") {
            self.add(Usage::of_message(body.usage));
        }
    }

    /// A response that stopped at its token limit is `incomplete`, and as whole as others.
    fn take_responses(&mut self, data: &[u8]) {
        if !has_any(&*RESPONSES_MARKS, data) {
            return;
        }
        let Some(event) = object::<ResponsesEvent<'_>>(data) else { return };
        if event.error.is_some() || is_text(event.kind, "error") {
            self.fail(data);
        } else if is_text(event.kind, "response.failed") {
            self.fail(event.response.map_or(data, |response| response.get().as_bytes()));
        } else if is_text(event.kind, "response.completed") || is_text(event.kind, "response.incomplete") {
            self.take_response(event.response.map_or(data, |response| response.get().as_bytes()));
            self.complete = self.fault.is_none();
        }
    }

    /// Takes a response as it is at its end.
    fn take_response(&mut self, response: &[u8]) {
        let Some(body) = object::<ResponseBody<'_>>(response) else { return };
        if body.error.is_some() || is_text(body.status, "failed") {
            self.fail(response);
        }
        self.add(Usage::of_input(body.usage));
    }

    /// Each figure is the last one reported: servers differ in which event carries it.
    fn add(&mut self, usage: Usage) {
        self.usage = usage.or(self.usage);
    }

    fn fail(&mut self, data: &[u8]) {
        self.fault.get_or_insert_with(|| BackendFault::from_body(data));
    }
}

fn has_any(marks: &[Finder<'_>], data: &[u8]) -> bool {
    marks.iter().any(|mark| mark.find(data).is_some())
}

#[cfg(test)]
mod tests;
