//! From the bytes of a stream to the single body, for every endpoint that has streams. Used by the relay and the
//! coordinator.

use super::AssembleError;
use super::anthropic::MessageAssembly;
use super::completions::TextAssembly;
use super::openai::ChatAssembly;
use super::responses::LastResponse;
use crate::core::formats::sse::{Event, SseSplitter};
use crate::core::formats::usage::{Ending, Tally};
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

/// The size of an event in addition to the kept part: a whole response may be in one event.
const AROUND: usize = 64 << 10;

/// A whole response. It has no `Debug`: it contains a completion.
#[derive(Clone, PartialEq, Eq)]
pub struct Whole {
    /// The body: one JSON object.
    pub body: Vec<u8>,
    /// The usage that the backend reported, 0 if it did not.
    pub tokens: Tokens,
}

/// A response that is being assembled. It has no `Debug`: it contains a completion.
pub struct Assembly {
    splitter: SseSplitter,
    tally: Tally,
    fold: Fold,
    error: Option<AssembleError>,
}

enum Fold {
    Chat(ChatAssembly),
    Text(TextAssembly),
    Message(MessageAssembly),
    Response(LastResponse),
}

impl Assembly {
    /// An assembly that keeps at most `limit` bytes.
    pub fn new(endpoint: Endpoint, limit: usize) -> Self {
        let fold = match endpoint {
            // Embeddings have no stream, so every event is of the wrong format.
            Endpoint::ChatCompletions | Endpoint::Embeddings => Fold::Chat(ChatAssembly::new(limit)),
            Endpoint::Completions => Fold::Text(TextAssembly::new(limit)),
            Endpoint::Messages => Fold::Message(MessageAssembly::new(limit)),
            Endpoint::Responses => Fold::Response(LastResponse::new(limit)),
        };
        let splitter = SseSplitter::new(limit.saturating_add(AROUND));
        Self { splitter, tally: Tally::new(endpoint), fold, error: None }
    }

    /// Handles the next piece of the stream, of any length: the kept part is bounded after each event. After an error no
    /// more is kept, and the same error is returned again.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), AssembleError> {
        let Self { splitter, tally, fold, error } = self;
        if error.is_none() {
            splitter.feed(bytes, |event| take(event, tally, fold, error));
            // If no event follows the gap yet.
            if splitter.oversized() > 0 && !tally.is_complete() {
                error.get_or_insert(AssembleError::TooLarge);
            }
        }
        error.clone().map_or(Ok(()), Err)
    }

    /// Whether the end mark was found: nothing relevant follows.
    pub fn is_complete(&self) -> bool {
        self.tally.is_complete()
    }

    /// The stream has ended. Returns the body and the usage.
    pub fn finish(mut self) -> Result<Whole, AssembleError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Self { splitter, tally, fold, error } = &mut self;
        splitter.finish(|event| take(event, tally, fold, error));
        match self.tally.ending() {
            Ending::Failed(fault) => Err(AssembleError::Failed(fault)),
            // Also if a part of an event, cut off by the end, could not be read.
            Ending::Truncated => Err(AssembleError::Truncated),
            Ending::Unread => Err(AssembleError::TooLarge),
            Ending::Complete { tokens } => {
                let body = match (self.error, self.fold) {
                    (Some(error), _) => Err(error),
                    (None, Fold::Chat(chat)) => chat.finish(),
                    (None, Fold::Text(text)) => text.finish(),
                    (None, Fold::Message(message)) => message.finish(),
                    (None, Fold::Response(response)) => response.finish(),
                };
                body.map(|body| Whole { body, tokens })
            }
        }
    }
}

fn take(event: Event<'_>, tally: &mut Tally, fold: &mut Fold, error: &mut Option<AssembleError>) {
    // Events after the end mark do not belong to the response.
    if error.is_some() || tally.is_complete() {
        return;
    }
    if event.follows_gap {
        *error = Some(AssembleError::TooLarge);
        return;
    }
    tally.take(event);
    let taken = match (tally.fault(), fold) {
        (Some(fault), _) => Err(AssembleError::Failed(fault.clone())),
        // The last event contains the response; the events before it only count by their end mark.
        (None, Fold::Response(response)) => response.feed(event.data),
        (None, _) if tally.is_complete() => Ok(()),
        (None, Fold::Chat(chat)) => chat.feed(event.data),
        (None, Fold::Text(text)) => text.feed(event.data),
        (None, Fold::Message(message)) => message.feed(event.data),
    };
    *error = taken.err();
}
