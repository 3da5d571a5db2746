//! Responses that are sent or received as one JSON body: a stream assembled to one, one passed on, a stream made of one.
//!
//! Nothing is sent before the response is complete, so the bytes held are bounded. Only a body that is passed on unchanged may
//! be longer.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::body::{Body, JSON};
use super::fault::{Fault, KEY_IN_ANSWER, TOO_LARGE};
use super::sender::ChunkSender;
use super::transfer::AFTER_THE_END;
use crate::core::formats::assemble::{AssembleError, Assembly, Whole};
use crate::core::formats::disassemble::disassemble;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::translate::MessageEvents;
use crate::core::formats::usage::{Ending, LongBodyScan, Tally};
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::wire::Tokens;

/// The most bytes that are held of an answer.
const LIMIT: usize = 16 << 20;
const NO_OBJECT: &str = "the backend's response is not a JSON object";

/// The one body that a stream comes to.
pub(super) async fn assembled(endpoint: Endpoint, body: Body) -> Result<Whole, Fault> {
    let mut assembly = Assembly::new(endpoint, LIMIT);
    read(body, |bytes| {
        assembly.feed(bytes)?;
        Ok(Progress::of(assembly.is_complete()))
    })
    .await?;
    Ok(assembly.finish()?)
}

/// Where a stream is after a piece of it.
enum Progress {
    GoesOn,
    /// Nothing that matters comes any more.
    Over,
}

impl Progress {
    fn of(is_over: bool) -> Self {
        if is_over { Self::Over } else { Self::GoesOn }
    }
}

/// Reads a stream to its end mark, and leaves the server to end it, which is nothing to wait for but a moment: one that is
/// cut off takes it for a client that went away.
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

/// Passes one body on unchanged: when it is complete, or, if it is longer than may be held, as it arrives.
pub(super) async fn relayed(
    endpoint: Endpoint,
    status: u16,
    mut body: Body,
    mut sender: ChunkSender<'_>,
    key: Option<&KeyTrace>,
) -> Result<Tokens, Fault> {
    let (text, mut next) = match held(&mut body).await? {
        Held::All(text) => {
            if key.is_some_and(|key| key.is_rare() && key.is_in(&text)) {
                return Err(Fault::agent(KEY_IN_ANSWER));
            }
            let Whole { body, tokens } = checked(endpoint, text)?;
            sender.begin(status, JSON);
            sender.append_whole(&body).await;
            return Ok(tokens);
        }
        Held::Start(text, next) => (text, Some(Ok(next))),
    };
    let mut scan = LongBodyScan::new(endpoint);
    scan.feed(&text);
    sender.begin(status, JSON);
    sender.append_whole(&text).await;
    drop(text);
    while let Some(bytes) = next {
        let bytes = bytes.map_err(|error| Fault::from(error).by_connection())?;
        scan.feed(&bytes);
        sender.append_whole(&bytes).await;
        next = body.next().await;
    }
    match scan.finish() {
        Ending::Complete { tokens } => Ok(tokens),
        Ending::Failed(fault) => Err(fault.into()),
        Ending::Truncated | Ending::Unread => Err(Fault::backend(NO_OBJECT)),
    }
}

/// What is held of a body.
enum Held {
    /// All of it.
    All(BytesMut),
    /// As much as may be held, and the piece behind that.
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

/// One body that is needed completely.
async fn as_it_came(endpoint: Endpoint, mut body: Body) -> Result<Whole, Fault> {
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

/// The stream that has the content of one body.
pub(super) async fn disassembled(endpoint: Endpoint, body: Body) -> Result<Whole, Fault> {
    let Whole { body, tokens } = as_it_came(endpoint, body).await?;
    let body = disassemble(endpoint, &body).map_err(|error| Fault::backend(error.to_string()))?;
    Ok(Whole { body, tokens })
}

/// The message that a stream of chat completions comes to.
pub(super) async fn message_of_stream(mut events: Box<MessageEvents>, body: Body) -> Result<Whole, Fault> {
    let mut assembly = Assembly::new(Endpoint::Messages, LIMIT);
    let mut out = BytesMut::new();
    read(body, |bytes| {
        events.feed(bytes, &mut out);
        // The error event is not part of a message: the end of the events reports the error.
        if !events.has_failed() {
            assembly.feed(&out)?;
        }
        out.clear();
        Ok(Progress::of(events.is_over()))
    })
    .await?;
    message(events, assembly, out)
}

/// The message, or the stream of its events, that one body of a chat completion comes to.
pub(super) async fn message_of_whole(
    mut events: Box<MessageEvents>,
    body: Body,
    form: AnswerForm,
) -> Result<Whole, Fault> {
    let Whole { body, tokens } = as_it_came(Endpoint::ChatCompletions, body).await?;
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

fn message(events: Box<MessageEvents>, mut assembly: Assembly, mut out: BytesMut) -> Result<Whole, Fault> {
    // The tokens are those that the chat completion reports, not those of the message that is made of it.
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
