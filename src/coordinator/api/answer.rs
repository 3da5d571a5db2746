//! The HTTP response of a job: its bytes as they come, or one JSON object, which an agent that knows of the form sends and
//! which is made here of another's stream.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::sleep;

use super::errors::ApiError;
use super::request::AnswerKind;
use super::usage_filter::UsageFilter;
use crate::coordinator::fleet::dispatch::{Running, Started};
use crate::coordinator::fleet::relay::{End, Relayed};
use crate::core::formats::assemble::{AssembleError, Assembly};
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::wire::ResponseHead;

/// The largest answer that is put together in memory, in bytes of its stream.
const MAX_WHOLE: usize = 64 << 20;
/// How long the event that tells of a failure has to reach a slow client before the body is cut behind it.
const LAST_WORDS: Duration = Duration::from_millis(500);
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// Responds with a job's answer, of which the first bytes are there.
pub(crate) async fn respond(started: Started, endpoint: Endpoint, kind: AnswerKind) -> HttpResponse {
    let Started { running, head, first } = started;
    // An agent that does not say relays what it was sent, which is a stream. No type but these two is passed on: what an
    // agent sends shall not be a page in somebody's browser.
    let came = match head.as_ref().map_or(EVENTS, ResponseHead::content_type) {
        EVENTS => AnswerForm::Stream,
        JSON => AnswerForm::Whole,
        _ => return ApiError::Garbled.response(endpoint.format()),
    };
    let whole = match (kind.form(), came) {
        (AnswerForm::Whole, AnswerForm::Stream) => assembled(running, &first, endpoint).await,
        (AnswerForm::Whole, AnswerForm::Whole) => as_it_came(running, &first).await,
        (AnswerForm::Stream, AnswerForm::Whole) => Err(ApiError::Garbled),
        (AnswerForm::Stream, AnswerForm::Stream) => return streamed(running, first, endpoint, kind),
    };
    match whole {
        Ok(body) => HttpResponse::Ok().content_type(JSON).body(body),
        Err(error) => error.response(endpoint.format()),
    }
}

fn streamed(running: Running, first: Bytes, endpoint: Endpoint, kind: AnswerKind) -> HttpResponse {
    let filter = match (kind, endpoint) {
        (AnswerKind::Stream, Endpoint::ChatCompletions | Endpoint::Completions) => Some(UsageFilter::default()),
        _ => None,
    };
    HttpResponse::Ok()
        .content_type(EVENTS)
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body(SseBody { running, first: Some(first), filter, tail: Tail::default(), endpoint }))
}

async fn assembled(mut running: Running, first: &[u8], endpoint: Endpoint) -> Result<Vec<u8>, ApiError> {
    let mut assembly = Assembly::new(endpoint, MAX_WHOLE);
    assembly.feed(first)?;
    loop {
        match running.next().await {
            Relayed::Head(_) => {}
            Relayed::Chunk(chunk) => assembly.feed(&chunk)?,
            Relayed::End(End::Done) => return Ok(assembly.finish()?.body),
            Relayed::End(end) => return Err(ApiError::of(end)),
        }
    }
}

async fn as_it_came(mut running: Running, first: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut body = first.to_vec();
    loop {
        match running.next().await {
            Relayed::Head(_) => {}
            Relayed::Chunk(chunk) if body.len() + chunk.len() > MAX_WHOLE => {
                return Err(AssembleError::TooLarge.into());
            }
            Relayed::Chunk(chunk) => body.extend_from_slice(&chunk),
            Relayed::End(End::Done) => return Ok(body),
            Relayed::End(end) => return Err(ApiError::of(end)),
        }
    }
}

/// A stream's state between two pieces of its body.
struct SseBody {
    running: Running,
    /// Came before the head was sent.
    first: Option<Bytes>,
    filter: Option<UsageFilter>,
    tail: Tail,
    endpoint: Endpoint,
}

/// Breaks a body off: without its last chunk no client takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the job failed within its answer")]
struct Cut;

/// What is left to send of a stream.
enum Rest {
    /// The answer goes on.
    Answer(Box<SseBody>),
    /// The client was told of a failure.
    Cut,
    /// Nothing.
    Nothing,
}

/// The body: never an empty piece, which would end it. Where the job ends badly there is an error event, at which the
/// APIs' own clients raise, and then the body is cut, for those that know nothing of events.
fn body(answer: SseBody) -> impl Stream<Item = Result<Bytes, Cut>> {
    unfold(Rest::Answer(Box::new(answer)), |rest| async {
        match rest {
            Rest::Answer(answer) => answer.next().await.map(|(piece, rest)| (Ok(piece), rest)),
            Rest::Cut => {
                sleep(LAST_WORDS).await;
                Some((Err(Cut), Rest::Nothing))
            }
            Rest::Nothing => None,
        }
    })
}

impl SseBody {
    async fn next(mut self: Box<Self>) -> Option<(Bytes, Rest)> {
        loop {
            let relayed = match self.first.take() {
                Some(first) => Relayed::Chunk(first),
                None => self.running.next().await,
            };
            match relayed {
                Relayed::Head(_) => {}
                Relayed::Chunk(chunk) => {
                    let piece = match &mut self.filter {
                        Some(filter) => filter.feed(&chunk).into(),
                        None => chunk,
                    };
                    if !piece.is_empty() {
                        self.tail.pass(&piece);
                        return Some((piece, Rest::Answer(self)));
                    }
                }
                Relayed::End(End::Done) => {
                    let rest = self.filter.map(UsageFilter::finish).unwrap_or_default();
                    return Some(rest).filter(|rest| !rest.is_empty()).map(|rest| (rest.into(), Rest::Nothing));
                }
                Relayed::End(end) => {
                    // An event that is incomplete in the filter is of no use to anybody.
                    let event = ApiError::of(end).event(self.endpoint.format());
                    return Some(([self.tail.completion().as_bytes(), &event].concat().into(), Rest::Cut));
                }
            }
        }
    }
}

/// The last bytes that were sent: whether an event is open.
#[derive(Default)]
struct Tail {
    /// Line breaks in a row at the end.
    breaks: usize,
    /// Anything was sent.
    begun: bool,
}

impl Tail {
    fn pass(&mut self, piece: &[u8]) {
        self.begun = true;
        let mut backwards = piece.iter().rev().filter(|byte| **byte != b'\r');
        self.breaks = match (backwards.next(), backwards.next()) {
            (None, _) => self.breaks,
            (Some(b'\n'), None) => self.breaks + 1,
            (Some(b'\n'), Some(b'\n')) => 2,
            (Some(b'\n'), Some(_)) => 1,
            (Some(_), _) => 0,
        };
    }

    /// What completes the open event, so that the next one is read as one of its own.
    fn completion(&self) -> &'static str {
        if self.begun && self.breaks < 2 { "\n\n" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_event_is_completed_and_no_other() {
        for (pieces, want) in [
            (&[][..], ""),
            (&["data: 1\n\n"], ""),
            (&["data: 1\r\n\r\n"], ""),
            (&["data: 1\n", "\n"], ""),
            (&["data: 1\r", "\n\r", "\n"], ""),
            (&["data: 1\n"], "\n\n"),
            (&["\n\ndata"], "\n\n"),
            (&["data: 1\n\n", "d"], "\n\n"),
        ] {
            let mut tail = Tail::default();
            pieces.iter().for_each(|piece| tail.pass(piece.as_bytes()));
            assert_eq!(tail.completion(), want, "{pieces:?}");
        }
    }
}
