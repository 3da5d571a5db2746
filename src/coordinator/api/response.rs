//! The HTTP response of a job: its bytes as they arrive, or one JSON object. Agents with the extension `endpoints` send such
//! an object; for the others it is assembled here from their stream.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::sleep;

use super::errors::ApiError;
use super::request::ResponseKind;
use super::usage_filter::UsageFilter;
use crate::coordinator::fleet::dispatch::StartedJob;
use crate::coordinator::fleet::response_channel::{ResponseEnd, ResponsePart};
use crate::coordinator::fleet::running_job::RunningJob;
use crate::core::formats::assemble::{AssembleError, Assembly};
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::wire::ResponseHead;

/// The largest response that is assembled in memory, in bytes of its stream.
const MAX_WHOLE: usize = 64 << 20;
/// How long an error event may take to reach a slow client before the connection is cut after it.
const ERROR_EVENT_TIME: Duration = Duration::from_millis(500);
/// A comment between two events, and one within an event. Clients of server-sent events skip both.
const WAITING: &[u8] = b": waiting\n\n";
const WAITING_IN_EVENT: &[u8] = b":\n";
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// Makes the HTTP response of a job. Its first bytes have arrived. After an error the client has got nothing.
pub(crate) async fn respond(
    started: StartedJob,
    endpoint: Endpoint,
    kind: ResponseKind,
) -> Result<HttpResponse, ApiError> {
    let StartedJob { mut running, head, first } = started;
    // An agent that sends no head relays a stream. Only these two types are accepted: an agent must not be able to send
    // a web page to a client's browser.
    let received = match head.as_ref().map_or(EVENTS, ResponseHead::content_type) {
        EVENTS => AnswerForm::Stream,
        JSON => AnswerForm::Whole,
        _ => {
            running.reject_response();
            return Err(ApiError::Garbled);
        }
    };
    let whole = match (kind.form(), received) {
        (AnswerForm::Whole, AnswerForm::Stream) => assembled(&mut running, &first, endpoint).await,
        (AnswerForm::Whole, AnswerForm::Whole) => unchanged(&mut running, &first).await,
        (AnswerForm::Stream, AnswerForm::Whole) => Err(ApiError::Garbled),
        (AnswerForm::Stream, AnswerForm::Stream) => return Ok(streamed(running, first, endpoint, kind)),
    };
    match whole {
        Ok(body) => Ok(HttpResponse::Ok().content_type(JSON).body(body)),
        Err(error) => {
            running.reject_response();
            Err(error)
        }
    }
}

fn streamed(running: RunningJob, first: Bytes, endpoint: Endpoint, kind: ResponseKind) -> HttpResponse {
    let filter = match (kind, endpoint) {
        (ResponseKind::Stream, Endpoint::ChatCompletions | Endpoint::Completions) => Some(UsageFilter::default()),
        _ => None,
    };
    HttpResponse::Ok()
        .content_type(EVENTS)
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body(SseBody { running, first: Some(first), filter, tail: Tail::default(), endpoint }))
}

async fn assembled(running: &mut RunningJob, first: &[u8], endpoint: Endpoint) -> Result<Vec<u8>, ApiError> {
    let mut assembly = Assembly::new(endpoint, MAX_WHOLE);
    assembly.feed(first)?;
    loop {
        match running.next().await {
            ResponsePart::Head(_) => {}
            ResponsePart::Chunk(chunk) => assembly.feed(&chunk)?,
            ResponsePart::End(ResponseEnd::Done(_)) => return Ok(assembly.finish()?.body),
            ResponsePart::End(end) => return Err(ApiError::of(end)),
        }
    }
}

async fn unchanged(running: &mut RunningJob, first: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut body = first.to_vec();
    loop {
        match running.next().await {
            ResponsePart::Head(_) => {}
            ResponsePart::Chunk(chunk) if body.len() + chunk.len() > MAX_WHOLE => {
                return Err(AssembleError::TooLarge.into());
            }
            ResponsePart::Chunk(chunk) => body.extend_from_slice(&chunk),
            ResponsePart::End(ResponseEnd::Done(_)) => return Ok(body),
            ResponsePart::End(end) => return Err(ApiError::of(end)),
        }
    }
}

/// The state of a stream between two parts of its body.
struct SseBody {
    running: RunningJob,
    /// Arrived before the head of the response was sent.
    first: Option<Bytes>,
    filter: Option<UsageFilter>,
    tail: Tail,
    endpoint: Endpoint,
}

/// Ends a body without its last chunk, so that no client takes it for complete.
#[derive(Debug, thiserror::Error)]
#[error("the job failed within its response")]
struct Cut;

/// The rest of a stream.
enum Rest {
    /// The response is not complete.
    Response(Box<SseBody>),
    /// The error event was sent.
    Cut,
    /// There is no rest.
    Nothing,
}

/// The body. No part is empty, because an empty part would end it. If the job fails there is an error event, which the APIs'
/// own clients report, and then the body is cut, for clients that ignore events.
fn body(sse: SseBody) -> impl Stream<Item = Result<Bytes, Cut>> {
    unfold(Rest::Response(Box::new(sse)), |rest| async {
        match rest {
            Rest::Response(sse) => sse.next().await.map(|(piece, rest)| (Ok(piece), rest)),
            Rest::Cut => {
                sleep(ERROR_EVENT_TIME).await;
                Some((Err(Cut), Rest::Nothing))
            }
            Rest::Nothing => None,
        }
    })
}

impl SseBody {
    async fn next(mut self: Box<Self>) -> Option<(Bytes, Rest)> {
        loop {
            let part = match self.first.take() {
                Some(first) => ResponsePart::Chunk(first),
                None => match self.running.next_or_waited().await {
                    Some(part) => part,
                    // So that nothing between takes the connection for dead.
                    None => match self.tail.comment() {
                        Some(comment) => return Some((Bytes::from_static(comment), Rest::Response(self))),
                        None => continue,
                    },
                },
            };
            match part {
                ResponsePart::Head(_) => {}
                ResponsePart::Chunk(chunk) => {
                    let piece = match &mut self.filter {
                        Some(filter) => filter.feed(&chunk).into(),
                        None => chunk,
                    };
                    if !piece.is_empty() {
                        self.tail.pass(&piece);
                        return Some((piece, Rest::Response(self)));
                    }
                }
                ResponsePart::End(ResponseEnd::Done(_)) => {
                    let rest = self.filter.map(UsageFilter::finish).unwrap_or_default();
                    return Some(rest).filter(|rest| !rest.is_empty()).map(|rest| (rest.into(), Rest::Nothing));
                }
                ResponsePart::End(end) => {
                    // The filter may hold an incomplete event, which is dropped.
                    let event = ApiError::of(end).event(self.endpoint.format());
                    return Some(([self.tail.completion().as_bytes(), &event].concat().into(), Rest::Cut));
                }
            }
        }
    }
}

/// The last bytes that were sent, to know whether an event is incomplete.
#[derive(Default)]
struct Tail {
    /// Line breaks in a row at the end.
    breaks: usize,
    /// Whether any bytes were sent.
    begun: bool,
    /// Whether the last byte is the first half of a line break, or all of it.
    ends_in_return: bool,
}

impl Tail {
    fn pass(&mut self, piece: &[u8]) {
        self.begun = true;
        self.ends_in_return = piece.last() == Some(&b'\r');
        let mut backwards = piece.iter().rev().filter(|byte| **byte != b'\r');
        self.breaks = match (backwards.next(), backwards.next()) {
            (None, _) => self.breaks,
            (Some(b'\n'), None) => self.breaks + 1,
            (Some(b'\n'), Some(b'\n')) => 2,
            (Some(b'\n'), Some(_)) => 1,
            (Some(_), _) => 0,
        };
    }

    /// A comment that may be sent now, which is only at the start of a line.
    fn comment(&self) -> Option<&'static [u8]> {
        match self.breaks {
            _ if self.ends_in_return => None,
            _ if !self.begun => Some(WAITING),
            0 => None,
            1 => Some(WAITING_IN_EVENT),
            _ => Some(WAITING),
        }
    }

    /// The line breaks that complete an incomplete event, so that the next event is separate.
    fn completion(&self) -> &'static str {
        if self.begun && self.breaks < 2 { "\n\n" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_incomplete_event_is_completed() {
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
            assert_eq!(tail(pieces).completion(), want, "{pieces:?}");
        }
    }

    fn tail(pieces: &[&str]) -> Tail {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.pass(piece.as_bytes()));
        tail
    }

    #[test]
    fn a_comment_is_sent_only_at_the_start_of_a_line() {
        for (pieces, want) in [
            (&[][..], Some(WAITING)),
            (&["data: 1\n\n"], Some(WAITING)),
            (&["data: 1\r\n", "\r\n"], Some(WAITING)),
            (&["event: a\n"], Some(WAITING_IN_EVENT)),
            (&["event: a\r\n"], Some(WAITING_IN_EVENT)),
            (&["event: a\r"], None),
            (&["event: a\r\n\r"], None),
            (&["data: 1\n\n", "d"], None),
        ] {
            assert_eq!(tail(pieces).comment(), want, "{pieces:?}");
        }
    }
}
