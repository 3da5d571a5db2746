//! The agent's side of the handshake.
//!
//! ```text
//! AwaitingChallenge --auth_challenge / auth_response--> AwaitingVerdict --auth_ok / accepted--> Over
//!         |                                                  |
//!         '---------- anything else / failed ----------------'--------------------------------> Over
//! ```
//!
//! The extensions that are on offer and known are agreed on with the answer; without an offer the answer names none.
//!
//! [`Handshake::next`] is the whole of it: at most one nonce is signed in a handshake, and only one of the right size that
//! was not signed before. It
//! holds no deadline and touches no link: the connection feeds it what arrives, does the step it returns, and ends the
//! link where a step takes too long.

use std::cell::RefCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::core::session::frames::FrameError;
use crate::core::session::nonces::SignedNonces;
use crate::messages::ids::ProviderId;
use crate::messages::secret::Secret;
use crate::messages::wire::{AuthResponse, Extensions, FromCoordinator};

/// Sizes of a nonce that is signed, in bytes.
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
/// The base64 text of the longest nonce.
const NONCE_TEXT: usize = NONCE_BYTES.end().div_ceil(3) * 4;
/// How much of a refusal's reason is kept, in characters.
const REASON_CHARS: usize = 256;
/// What is shown for a refusal without a reason.
const NO_REASON: &str = "unknown";

/// Where the handshake is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// The link is open, the coordinator speaks first.
    #[default]
    AwaitingChallenge,
    /// The answer to the challenge is on its way.
    AwaitingVerdict {
        /// What it said the agent will use.
        agreed: Extensions,
    },
    /// Accepted or failed. Nothing that arrives now belongs to the handshake.
    Over,
}

/// What arrived.
#[derive(Clone, Copy)]
pub enum Received<'a> {
    /// A whole text message.
    Text(&'a Bytes),
    /// A binary message.
    Binary,
    /// A ping. The link answers it.
    Ping,
    /// A pong.
    Pong,
    /// A close frame, or the end of the stream.
    Close,
}

/// Who the agent is. It has no `Debug`.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The ed25519 public key.
    pub pubkey: &'a [u8; 32],
    /// Signs with the key that belongs to `pubkey`.
    pub sign: &'a dyn Fn(&[u8]) -> [u8; 64],
    /// What was signed with it, on this connection and on earlier ones.
    pub signed: &'a RefCell<SignedNonces>,
    /// What lets an unknown agent in. Given only while the agent holds no provider id.
    pub enrollment_code: Option<&'a Secret>,
    /// The agent's version.
    pub agent_version: &'a str,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Nothing: wait for what comes next.
    Wait,
    /// Send this frame, then wait.
    Send(AuthResponse),
    /// The agent is in.
    Accepted {
        /// The name the coordinator gave it. One that is new must be stored before the agent goes on.
        provider_id: Option<ProviderId>,
        /// What both sides speak beyond the base protocol.
        agreed: Extensions,
    },
    /// Close the link.
    Failed(HandshakeFailure),
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFailure {
    /// `auth_failed`.
    #[error("the coordinator refuses this agent: {reason}")]
    Rejected {
        /// Why: the coordinator's words, at most 256 characters, without the enrollment code; `unknown` if it said
        /// nothing. `Display` does not escape it: escape the whole text before it is shown.
        reason: String,
    },
    /// The nonce is missing, is not base64, or is not of 16 to 256 bytes. Nothing was signed.
    #[error("the challenge's nonce is not base64 of 16 to 256 bytes")]
    BadNonce,
    /// The nonce was signed before, on another connection. It was not signed again.
    #[error("the challenge's nonce was used before: the coordinator repeats itself, or somebody repeats its words")]
    UsedNonce,
    /// The provider id is no string, or not 1 to 128 characters of those allowed.
    #[error("the provider id is not 1 to 128 characters of letters, digits, '.', '_', ':' and '-'")]
    BadProviderId,
    /// A binary frame.
    #[error("a binary frame came during the handshake")]
    BinaryFrame,
    /// The link was closed.
    #[error("the coordinator closed the connection during the handshake")]
    Closed,
    /// A text frame that is no JSON object.
    #[error("a text that is no JSON object came during the handshake")]
    NotJson,
    /// A frame that has no place at this step, or that has no type.
    #[error("a frame came that has no place in the handshake")]
    UnexpectedType,
}

impl Handshake {
    /// Takes in what arrived, and says where the handshake is now and what to do.
    pub fn next(self, received: Received<'_>, credentials: &Credentials<'_>) -> (Self, Step) {
        let step = match received {
            Received::Ping | Received::Pong => return (self, Step::Wait),
            Received::Binary => Err(HandshakeFailure::BinaryFrame),
            Received::Close => Err(HandshakeFailure::Closed),
            Received::Text(text) => self.read(text, credentials),
        };
        match step {
            Ok(Step::Send(response)) => (Self::AwaitingVerdict { agreed: response.extensions }, Step::Send(response)),
            Ok(step) => (Self::Over, step),
            Err(failure) => (Self::Over, Step::Failed(failure)),
        }
    }

    fn read(self, text: &Bytes, credentials: &Credentials<'_>) -> Result<Step, HandshakeFailure> {
        match (self, FromCoordinator::parse(text)) {
            (Self::AwaitingChallenge, Ok(FromCoordinator::AuthChallenge { nonce, extensions })) => {
                Ok(Step::Send(answer(&nonce, extensions, credentials)?))
            }
            (Self::AwaitingVerdict { agreed }, Ok(FromCoordinator::AuthOk { provider_id })) => {
                let provider_id = provider_id.map(|id| id.parse()).transpose();
                Ok(Step::Accepted { provider_id: provider_id.map_err(|_| HandshakeFailure::BadProviderId)?, agreed })
            }
            // Also before the challenge, where it has no place: its reason is what the operator needs to read.
            (_, Ok(FromCoordinator::AuthFailed { reason })) => Err(rejected(reason, credentials.enrollment_code)),
            // Of the frames read here only `auth_ok` has a field whose type is checked.
            (Self::AwaitingVerdict { .. }, Err(FrameError::WrongType(_))) => Err(HandshakeFailure::BadProviderId),
            (_, Err(FrameError::NotAnObject)) => Err(HandshakeFailure::NotJson),
            (_, Ok(_) | Err(FrameError::NoType | FrameError::NoJobId | FrameError::WrongType(_))) => {
                Err(HandshakeFailure::UnexpectedType)
            }
        }
    }
}

/// The answer to a challenge. `offered` holds only what this build has: it will use all of it.
fn answer(nonce: &str, offered: Extensions, credentials: &Credentials<'_>) -> Result<AuthResponse, HandshakeFailure> {
    if nonce.len() > NONCE_TEXT {
        return Err(HandshakeFailure::BadNonce);
    }
    let nonce = STANDARD.decode(nonce).map_err(|_| HandshakeFailure::BadNonce)?;
    if !NONCE_BYTES.contains(&nonce.len()) {
        return Err(HandshakeFailure::BadNonce);
    }
    if !credentials.signed.borrow_mut().note(&nonce) {
        return Err(HandshakeFailure::UsedNonce);
    }
    Ok(AuthResponse {
        pubkey: STANDARD.encode(credentials.pubkey),
        signature: STANDARD.encode((credentials.sign)(&nonce)),
        agent_version: credentials.agent_version.to_owned(),
        enrollment_code: credentials.enrollment_code.map(|code| code.reveal().to_owned()),
        extensions: offered,
    })
}

fn rejected(reason: Option<String>, code: Option<&Secret>) -> HandshakeFailure {
    let mut reason = reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| NO_REASON.to_owned());
    // A coordinator may quote the code that it refuses, and the reason goes to the log.
    if let Some(code) = code.map(Secret::reveal).filter(|code| !code.is_empty()) {
        reason = reason.replace(code, "…");
    }
    HandshakeFailure::Rejected { reason: reason.chars().take(REASON_CHARS).collect() }
}

#[cfg(test)]
mod tests;
