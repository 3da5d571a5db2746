//! What a check found. Text of the coordinator is escaped when it is shown.

use std::fmt;

use super::peer::End;
use crate::messages::untrusted::Untrusted;
use crate::transport::stream::DialError;
use crate::transport::websocket::codec::Frame;

/// The longest part of a received frame that is shown, in characters.
const SHOWN: usize = 120;

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Finding {
    /// There was no WebSocket.
    #[error("expected a WebSocket, {0}")]
    NoConnection(DialError),
    /// The connection ended or stayed silent.
    #[error("expected {0}, got {1}")]
    Ended(&'static str, End),
    /// Another frame was received.
    #[error("expected {0}, got {1}")]
    Received(&'static str, Received),
    /// The nonce is not base64 with padding.
    #[error("the nonce is not base64 of the standard alphabet with padding")]
    NonceNotBase64,
    /// The nonce has a length outside of 16 to 256 bytes.
    #[error("the nonce has {0} bytes, not 16 to 256")]
    NonceLength(usize),
    /// Two connections had the same nonce.
    #[error("two challenges had the same nonce")]
    NonceRepeated,
    /// A field is missing though it must be there, or it has another type or form than the protocol gives it.
    #[error("the field `{0}` is missing or malformed")]
    Field(&'static str),
    /// A frame is larger than the agent reported that it takes.
    #[error("received a frame of {0} bytes, more than the agent takes")]
    TooLarge(usize),
    /// The coordinator resumed a session that it never opened.
    #[error("a session that was never opened was resumed")]
    Resumed,
    /// The coordinator accepted an agent that did not prove its key.
    #[error("the agent was accepted without a proof of its key")]
    Accepted,
}

/// A received frame, for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    text: String,
    is_close: bool,
}

impl Received {
    pub(super) fn of(frame: &Frame) -> Self {
        let text = match frame {
            Frame::Text(text) => {
                String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN)]).chars().take(SHOWN).collect()
            }
            Frame::Binary(bytes) => format!("a binary frame of {} bytes", bytes.len()),
            Frame::Ping(_) => "a ping".to_owned(),
            Frame::Pong(_) => "a pong".to_owned(),
            Frame::Close { code: Some(code), reason } => format!("close {code} {reason}"),
            Frame::Close { code: None, .. } => "close without a code".to_owned(),
        };
        Self { text, is_close: matches!(frame, Frame::Close { .. }) }
    }

    /// Whether it was a close frame.
    pub(super) fn is_close(&self) -> bool {
        self.is_close
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Untrusted(&self.text).fmt(f)
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The coordinator follows the rule.
    Ok,
    /// The rule belongs to an extension that the coordinator does not offer.
    NotOffered,
    /// The coordinator violates the rule.
    Violated(Finding),
}
