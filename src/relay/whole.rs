//! Responses that are sent or received as one body: a stream assembled to a body, a body relayed unchanged, a body
//! disassembled to a stream.
//!
//! Nothing is sent before the response is known to be complete, so the held part is bounded. Only a body that is relayed
//! unchanged may be longer.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::fault::{Fault, TOO_LARGE};
use super::run::{Body, JSON};
use super::sender::ChunkSender;
use super::transfer::AFTER_THE_END;
use crate::core::formats::assemble::{AssembleError, Assembly, Whole};
use crate::core::formats::disassemble::disassemble;
use crate::core::formats::translate::MessageEvents;
use crate::core::formats::usage::{Ending, LongBodyScan, Tally};
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::wire::Tokens;

/// The most bytes of a response that are held.
const LIMIT: usize = 16 << 20;
const NO_OBJECT: &str = "the backend's response is not a JSON object";

/// The body that is assembled from a stream.
pub(super) async fn assembled(endpoint: Endpoint, body: Body) -> Result<Whole, Fault> {
    let mut assembly = Assembly::new(endpoint, LIMIT);
    read(body, |bytes| {
        assembly.feed(bytes)?;
        Ok(Progress::of(assembly.is_complete()))
    })
    .await?;
    Ok(assembly.finish()?)
}

/// The state of a stream after a piece of it.
enum Progress {
    GoesOn,
    /// No relevant bytes follow.
    Over,
}

impl Progress {
    fn of(is_over: bool) -> Self {
        if is_over { Self::Over } else { Self::GoesOn }
    }
}

/// Reads a stream to its end mark, and then for a moment to its end, so that the server does not take the closed connection
/// for a cancel.
async fn read(mut body: Body, mut take: impl FnMut(&[u8]) -> Result<Progress, AssembleError>) -> Result<(), Fault> {
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| Fault::from(error).by_connection())?;
        if let Progress::Over = take(&bytes)? {
            let _ = timeout(AFTER_THE_END, async { while let Some(Ok(_)) = body.next().await {} }).await;
            break;
        }
    }
    Ok(())
}

/// Relays a body unchanged: when it is complete, if it can be held; a longer one as it is received.
pub(super) async fn relayed(
    endpoint: Endpoint,
    status: u16,
    mut body: Body,
    mut sender: ChunkSender<'_>,
) -> Result<Tokens, Fault> {
    let (text, mut next) = match held(&mut body).await? {
        Held::All(text) => {
            let Whole { body, tokens } = checked(endpoint, text)?;
            sender.begin(status, JSON);
            sender.append_all(&body).await;
            return Ok(tokens);
        }
        Held::Start(text, next) => (text, Some(Ok(next))),
    };
    let mut scan = LongBodyScan::new(endpoint);
    scan.feed(&text);
    sender.begin(status, JSON);
    sender.append_all(&text).await;
    drop(text);
    while let Some(bytes) = next {
        let bytes = bytes.map_err(|error| Fault::from(error).by_connection())?;
        scan.feed(&bytes);
        sender.append_all(&bytes).await;
        next = body.next().await;
    }
    match scan.finish() {
        Ending::Complete { tokens } => Ok(tokens),
        Ending::Failed(fault) => Err(fault.into()),
        Ending::Truncated | Ending::Unread => Err(Fault::backend(NO_OBJECT)),
    }
}

/// The held part of a body.
enum Held {
    /// The whole body.
    All(BytesMut),
    /// As much as may be held, and the next piece.
    Start(BytesMut, Bytes),
}

async fn held(body: &mut Body) -> Result<Held, Fault> {
    let mut text = BytesMut::new();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| Fault::from(error).by_connection())?;
        if text.len() + bytes.len() > LIMIT {
            return Ok(Held::Start(text, bytes));
        }
        text.extend_from_slice(&bytes);
    }
    Ok(Held::All(text))
}

/// Reads a body to its end.
async fn unchanged(endpoint: Endpoint, mut body: Body) -> Result<Whole, Fault> {
    match held(&mut body).await? {
        Held::All(text) => checked(endpoint, text),
        Held::Start(..) => Err(Fault::agent(TOO_LARGE)),
    }
}

fn checked(endpoint: Endpoint, text: BytesMut) -> Result<Whole, Fault> {
    let mut tally = Tally::new(endpoint);
    tally.take_whole(&text);
    match tally.ending() {
        Ending::Complete { tokens } => Ok(Whole { body: text.into(), tokens }),
        Ending::Failed(fault) => Err(fault.into()),
        Ending::Truncated | Ending::Unread => Err(Fault::backend(NO_OBJECT)),
    }
}

/// The stream with the same content as a body.
pub(super) async fn disassembled(endpoint: Endpoint, body: Body) -> Result<Whole, Fault> {
    let Whole { body, tokens } = unchanged(endpoint, body).await?;
    let body = disassemble(endpoint, &body).map_err(|error| Fault::backend(error.to_string()))?;
    Ok(Whole { body, tokens })
}

/// The message with the content of a stream of chat completions.
pub(super) async fn message_of_stream(mut events: MessageEvents, body: Body) -> Result<Whole, Fault> {
    let mut assembly = Assembly::new(Endpoint::Messages, LIMIT);
    let mut out = BytesMut::new();
    read(body, |bytes| {
        events.feed(bytes, &mut out);
        // The event of an error is not a part of a message: `events.finish` reports it.
        if !events.has_failed() {
            assembly.feed(&out)?;
        }
        out.clear();
        Ok(Progress::of(events.is_over()))
    })
    .await?;
    message(events, assembly, out)
}

/// The message, or the stream of its events, with the content of the body of a chat completion.
pub(super) async fn message_of_whole(mut events: MessageEvents, body: Body, form: AnswerForm) -> Result<Whole, Fault> {
    let Whole { body, tokens } = unchanged(Endpoint::ChatCompletions, body).await?;
    let mut out = BytesMut::new();
    events.take_whole(&body, &mut out);
    match form {
        AnswerForm::Stream => match events.finish(&mut out) {
            Ending::Failed(fault) => Err(fault.into()),
            Ending::Unread => Err(Fault::agent(TOO_LARGE)),
            Ending::Complete { .. } | Ending::Truncated => Ok(Whole { body: out.into(), tokens }),
        },
        AnswerForm::Whole => message(events, Assembly::new(Endpoint::Messages, LIMIT), out),
    }
}

fn message(events: MessageEvents, mut assembly: Assembly, mut out: BytesMut) -> Result<Whole, Fault> {
    // Use the tokens that the chat completion reports, not those of the translated message.
    match events.finish(&mut out) {
        Ending::Complete { tokens } => {
            assembly.feed(&out)?;
            Ok(Whole { tokens, ..assembly.finish()? })
        }
        Ending::Failed(fault) => Err(fault.into()),
        Ending::Unread => Err(Fault::agent(TOO_LARGE)),
        Ending::Truncated => Err(Fault::backend("the backend's response ended without its end mark").by_connection()),
    }
}
