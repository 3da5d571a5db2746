//! How a response ended, and the usage that the backend reports.
//!
//! The response is only read: [`ResponseScan`] sees the bytes that a worker passes on. Only events with a relevant mark are
//! parsed. No message is kept, because it may quote the prompt.

use std::sync::LazyLock;

use self::figures::{AnyObject, Usage};
use self::marks::Marks;
use super::anthropic;
use super::openai::{CompletionReport, Response, ResponseEvent};
use super::sse::{EVENT_LIMIT, Event, Part, SseSplitter};
use crate::core::json::{Abridged, Selection, object, parse};
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

mod fault;
mod figures;
mod marks;

pub(crate) use fault::BackendFault;

/// The marks of relevant events of completions.
static OPENAI_MARKS: LazyLock<Marks<3>> = LazyLock::new(|| Marks::new([r#""usage""#, r#""timings""#, r#""error""#]));
/// The same for messages.
static ANTHROPIC_MARKS: LazyLock<Marks<3>> =
    LazyLock::new(|| Marks::new([r#""message_stop""#, r#""usage""#, r#""error""#]));
/// The same for responses.
static RESPONSES_MARKS: LazyLock<Marks<4>> = LazyLock::new(|| {
    Marks::new([r#""response.completed""#, r#""response.incomplete""#, r#""response.failed""#, r#""error""#])
});

/// What is kept of an event that is too long to be held: the members that report an end, an error or usage, also within the
/// last event of responses and the first one of messages. [`Tally`] reads the result like any other event.
const RELEVANT: Selection = Selection {
    kept: &[b"type", b"object", b"status", b"code", b"error", b"usage", b"timings"],
    entered: &[b"response", b"message"],
};

/// How a response ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The end mark of its endpoint was received.
    Complete {
        /// As the backend reported, 0 if it did not.
        tokens: Tokens,
    },
    /// The backend reported an error within the stream, whatever followed.
    Failed(BackendFault),
    /// Neither was received: the stream broke off.
    Truncated,
    /// Neither was found: an event was too long, and the body ended after it.
    Unread,
}

/// Scans the body of one streamed response. It keeps at most `EVENT_LIMIT` of it. Of a longer event it reads the members
/// about an end, an error or usage as they are received.
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

    /// The same, which holds no longer events than that.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn within(endpoint: Endpoint, limit: usize) -> Self {
        Self { splitter: SseSplitter::new(limit), ..Self::new(endpoint) }
    }

    /// Handles the next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { splitter, tally, long } = self;
        splitter.feed_parts(bytes, |part| take_part(part, tally, long));
    }

    /// Whether the end mark or an error was found, so that it is known how the response ends.
    pub fn is_over(&self) -> bool {
        self.tally.is_complete() || self.tally.fault().is_some()
    }

    /// The events so far: in a stream about one a token.
    pub(crate) fn events(&self) -> u64 {
        self.tally.events()
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

/// Scans one JSON body that is too long to be held.
pub(crate) struct LongBodyScan {
    endpoint: Endpoint,
    abridged: Abridged,
}

impl LongBodyScan {
    /// A scan of the body of a response of this endpoint.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, abridged: Abridged::new(RELEVANT) }
    }

    /// Handles the next piece of the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.abridged.feed(bytes);
    }

    /// The body has ended.
    pub(crate) fn finish(self) -> Ending {
        let mut tally = Tally::new(self.endpoint);
        tally.take_whole(&self.abridged.finish().unwrap_or_default());
        tally.ending()
    }
}

fn take_part(part: Part<'_>, tally: &mut Tally, long: &mut Option<Box<Abridged>>) {
    match part {
        Part::Event(event) => tally.take(event),
        Part::Long(piece) => long.get_or_insert_with(|| Box::new(Abridged::new(RELEVANT))).feed(piece),
        Part::LongEnd(name) => match long.take().and_then(|long| long.finish()) {
            Some(data) => tally.take(Event { name, data: &data, follows_gap: false }),
            None => tally.miss(name),
        },
    }
}

/// The summary of the events of one response.
pub(crate) struct Tally {
    endpoint: Endpoint,
    /// Events up to the end mark.
    events: u64,
    complete: bool,
    fault: Option<BackendFault>,
    usage: Usage,
    /// llama.cpp's own figures, used if it was not asked for usage.
    timings: Option<Usage>,
    /// An event could not be read: it may have been the end mark.
    missed: bool,
}

impl Tally {
    /// Without events.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            events: 0,
            complete: false,
            fault: None,
            usage: Usage::default(),
            timings: None,
            missed: false,
        }
    }

    /// Whether the end mark was found.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The events so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The error that the backend reported.
    pub(crate) fn fault(&self) -> Option<&BackendFault> {
        self.fault.as_ref()
    }

    /// Handles the body of a response that is one JSON value and not a stream. It is complete if it is an object.
    pub(crate) fn take_whole(&mut self, body: &[u8]) {
        if self.endpoint == Endpoint::Responses {
            self.take_response(body);
        } else {
            self.take(Event { name: b"", data: body, follows_gap: false });
        }
        self.complete = object::<AnyObject>(body).is_some();
    }

    /// Handles the next event. Events after the end mark do not belong to the response.
    pub(crate) fn take(&mut self, event: Event<'_>) {
        if self.complete {
            return;
        }
        self.events += 1;
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

    /// The usage that the backend has reported so far, 0 if it has not.
    pub(crate) fn tokens(&self) -> Tokens {
        self.timings.filter(|_| self.usage.is_empty()).unwrap_or(self.usage).tokens()
    }

    /// How it ends if nothing follows.
    pub(crate) fn ending(self) -> Ending {
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
        } else if OPENAI_MARKS.is_any_in(data) {
            let Some(chunk) = object::<CompletionReport<'_>>(data) else { return };
            if chunk.error.is_some() || chunk.object == "error" {
                self.fail(data);
            }
            let usage = Usage::of_completion(chunk.usage);
            if !usage.is_empty() {
                self.usage = usage;
            }
            self.timings = Usage::of_timings(chunk.timings).or(self.timings);
        }
    }

    fn take_anthropic(&mut self, data: &[u8]) {
        if !ANTHROPIC_MARKS.is_any_in(data) {
            return;
        }
        let Some(event) = object::<anthropic::EventReport<'_>>(data) else { return };
        match event.kind {
            _ if event.error.is_some() => self.fail(data),
            "error" => self.fail(data),
            "message_stop" => self.complete = true,
            "message_start" => {
                let message = parse::<anthropic::MessageReport<'_>>(event.message);
                self.add(Usage::of_message(message.and_then(|message| message.usage)));
            }
            // Or the one body of a response that is not a stream.
            "message_delta" | "message" => self.add(Usage::of_message(event.usage)),
            _ => {}
        }
    }

    /// A response that stopped at its token limit is `incomplete`, and as valid as others.
    fn take_responses(&mut self, data: &[u8]) {
        if !RESPONSES_MARKS.is_any_in(data) {
            return;
        }
        let Some(event) = object::<ResponseEvent<'_>>(data) else { return };
        let response = event.response.map_or(data, |response| response.get().as_bytes());
        match event.kind {
            _ if event.error.is_some() => self.fail(data),
            "error" => self.fail(data),
            "response.failed" => self.fail(response),
            "response.completed" | "response.incomplete" => {
                self.take_response(response);
                self.complete = self.fault.is_none();
            }
            _ => {}
        }
    }

    /// Handles the final state of a response.
    fn take_response(&mut self, response: &[u8]) {
        let Some(body) = object::<Response<'_>>(response) else { return };
        if body.error.is_some() || body.status == "failed" {
            self.fail(response);
        }
        self.add(Usage::of_response(body.usage));
    }

    /// The last reported value of each figure counts: servers differ in which event contains it.
    fn add(&mut self, usage: Usage) {
        self.usage = usage.or(self.usage);
    }

    fn fail(&mut self, data: &[u8]) {
        self.fault.get_or_insert_with(|| BackendFault::from_body(data));
    }
}

#[cfg(test)]
mod tests;
