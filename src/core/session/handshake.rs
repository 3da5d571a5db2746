//! The agent's side of the handshake.
//!
//! ```text
//! AwaitingChallenge --auth_challenge / auth_response--> AwaitingVerdict --auth_ok / accepted--> Over
//!         |                                                  |
//!         '---------- anything else / failed ----------------'--------------------------------> Over
//! ```
//!
//! The extensions that are offered and known are agreed on with the response; without an offer the response names none. With
//! `auth2` among them the signature covers a statement with the nonce in it, and the bare nonce is never signed.
//!
//! [`Handshake::next`] is the whole handshake. It signs at most one nonce, and only one of the right size that was not
//! signed before. It has no deadline and does no IO: the connection calls it with what is received, carries out the step
//! that it returns, and ends the connection if a step takes too long.

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::core::session::auth2::{self, CLIENT_NONCE};
use crate::core::session::frames::FrameError;
use crate::core::session::nonces::SignedNonces;
use crate::messages::ids::{ProviderId, SessionName};
use crate::messages::secret::Secret;
use crate::messages::wire::{AuthOk, AuthResponse, Extension, Extensions, FromCoordinator, ResumeRequest, WantedJob};

/// Sizes of a nonce that is signed, in bytes.
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
/// The length of the base64 text of the longest nonce.
const NONCE_TEXT: usize = NONCE_BYTES.end().div_ceil(3) * 4;
/// How much of a refusal's reason is kept, in characters.
const REASON_CHARS: usize = 256;
/// The reason of a refusal without one.
const NO_REASON: &str = "unknown";

/// The state of the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// The connection is open; the coordinator sends first.
    #[default]
    AwaitingChallenge,
    /// The response to the challenge was sent.
    AwaitingVerdict {
        /// The extensions that the response names.
        agreed: Extensions,
        /// Whether the response names a session to go on with.
        resumes: bool,
    },
    /// Accepted or failed. No further frame belongs to the handshake.
    Over,
}

/// A received frame.
#[derive(Clone, Copy)]
pub(crate) enum Received<'a> {
    /// A whole text message.
    Text(&'a Bytes),
    /// A binary message.
    Binary,
    /// A ping. The connection answers it.
    Ping,
    /// A pong.
    Pong,
    /// A close frame, or the end of the stream.
    Close,
}

/// The identity of the agent. It has no `Debug`.
#[derive(Clone, Copy)]
pub(crate) struct Credentials<'a> {
    /// The ed25519 public key.
    pub pubkey: &'a [u8; 32],
    /// Signs with the key that belongs to `pubkey`.
    pub sign: &'a dyn Fn(&[u8]) -> [u8; 64],
    /// The nonces signed with the key, on this connection and on earlier ones.
    pub signed: &'a RefCell<SignedNonces>,
    /// Admits an unknown agent. Given only while the agent has no provider id.
    pub enrollment_code: Option<&'a Secret>,
    /// The agent's version.
    pub agent_version: &'a str,
    /// The coordinator's `host:port` by the configured URL, for the statement of `auth2`.
    pub coordinator: &'a str,
    /// Random bytes for that statement. Each connection has its own.
    pub client_nonce: &'a [u8; CLIENT_NONCE],
    /// Whether only such a statement may be signed.
    pub requires_auth2: bool,
    /// The session to go on with, if the agent keeps jobs. Sent only where `resume` is offered.
    pub resume: Option<&'a ResumeRequest>,
}

/// The session of an accepted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionGrant {
    /// Its name on the wire.
    pub name: SessionName,
    /// How long the coordinator keeps it after the connection has ended.
    pub window: Duration,
    /// The jobs that the coordinator still wants, if this is the session that the response named. `None` for a new session.
    pub resumed: Option<Vec<WantedJob>>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Step {
    /// Wait for the next frame.
    Wait,
    /// Send this frame, then wait.
    Send(AuthResponse),
    /// The agent is admitted.
    Accepted {
        /// The id that the coordinator assigned. A new one must be stored before the agent goes on.
        provider_id: Option<ProviderId>,
        /// The extensions that were agreed on.
        agreed: Extensions,
        /// The session, if `resume` was agreed on.
        session: Option<SessionGrant>,
    },
    /// Close the connection.
    Failed(HandshakeFailure),
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFailure {
    /// `auth_failed`.
    #[error("the coordinator refuses this agent: {reason}")]
    Rejected {
        /// The coordinator's reason, at most 256 characters, without the enrollment code; `unknown` if it sent none.
        /// `Display` does not escape it: escape the whole text before it is shown.
        reason: String,
    },
    /// The nonce is missing, is not base64, or is not of 16 to 256 bytes. Nothing was signed.
    #[error("the challenge's nonce is not base64 of 16 to 256 bytes")]
    BadNonce,
    /// The nonce was signed before, on another connection. It was not signed again.
    #[error("the challenge's nonce was used before: the coordinator reuses nonces, or someone replays its frames")]
    UsedNonce,
    /// The nonce is what a coordinator with `auth2` would have signed. It was not signed.
    #[error(
        "the challenge's nonce is a statement for another coordinator: signing it would prove this agent's key there"
    )]
    StatementAsNonce,
    /// The operator requires `auth2`, and it is not on offer. Nothing was signed.
    #[error(
        "the coordinator does not offer the extension auth2, and OUTPOST_REQUIRE_AUTH2 is set: its challenge was not signed"
    )]
    Auth2NotOffered,
    /// The provider id is not a string of 1 to 128 allowed characters.
    #[error("the provider id is not 1 to 128 characters of letters, digits, '.', '_', ':' and '-'")]
    BadProviderId,
    /// `resume` was agreed on, and `session`, `resume_window_ms` or, with `resumed`, `jobs` is missing, malformed or out of range.
    #[error("the coordinator agreed to keep sessions, and its auth_ok has no valid session")]
    BadSession,
    /// A binary frame.
    #[error("received a binary frame during the handshake")]
    BinaryFrame,
    /// The connection was closed.
    #[error("the coordinator closed the connection during the handshake")]
    Closed,
    /// A text frame that is not a JSON object.
    #[error("received a text that is not a JSON object during the handshake")]
    NotJson,
    /// A frame that is not expected at this step, or that has no type.
    #[error("received an unexpected frame during the handshake")]
    UnexpectedType,
}

impl Handshake {
    /// Handles a received frame. Returns the new state and the next step.
    pub(crate) fn next(self, received: Received<'_>, credentials: &Credentials<'_>) -> (Self, Step) {
        let step = match received {
            Received::Ping | Received::Pong => return (self, Step::Wait),
            Received::Binary => Err(HandshakeFailure::BinaryFrame),
            Received::Close => Err(HandshakeFailure::Closed),
            Received::Text(text) => self.read(text, credentials),
        };
        match step {
            Ok(Step::Send(response)) => {
                let (agreed, resumes) = (response.extensions, response.resume.is_some());
                (Self::AwaitingVerdict { agreed, resumes }, Step::Send(response))
            }
            Ok(step) => (Self::Over, step),
            Err(failure) => (Self::Over, Step::Failed(failure)),
        }
    }

    fn read(self, text: &Bytes, credentials: &Credentials<'_>) -> Result<Step, HandshakeFailure> {
        match (self, FromCoordinator::parse(text)) {
            (Self::AwaitingChallenge, Ok(FromCoordinator::AuthChallenge { nonce, extensions })) => {
                Ok(Step::Send(answer(&nonce, extensions, credentials)?))
            }
            (Self::AwaitingVerdict { agreed, resumes }, Ok(FromCoordinator::AuthOk(mut ok))) => {
                let provider_id = ok.provider_id.take().map(|id| id.parse()).transpose();
                let provider_id = provider_id.map_err(|_| HandshakeFailure::BadProviderId)?;
                let has_session = agreed.contains(Extension::Resume);
                let session =
                    has_session.then(|| session(ok, resumes).ok_or(HandshakeFailure::BadSession)).transpose()?;
                Ok(Step::Accepted { provider_id, agreed, session })
            }
            // Also before the challenge, where it is unexpected: the operator needs its reason.
            (_, Ok(FromCoordinator::AuthFailed { reason })) => Err(rejected(reason, credentials.enrollment_code)),
            (Self::AwaitingVerdict { .. }, Err(FrameError::WrongType("provider_id"))) => {
                Err(HandshakeFailure::BadProviderId)
            }
            (_, Err(FrameError::NotAnObject)) => Err(HandshakeFailure::NotJson),
            (_, Ok(_) | Err(FrameError::NoType | FrameError::NoJobId | FrameError::WrongType(_))) => {
                Err(HandshakeFailure::UnexpectedType)
            }
        }
    }
}

/// The response to a challenge. `offered` contains only known extensions: the agent will use all of them.
fn answer(nonce: &str, offered: Extensions, credentials: &Credentials<'_>) -> Result<AuthResponse, HandshakeFailure> {
    let has_auth2 = offered.contains(Extension::Auth2);
    if credentials.requires_auth2 && !has_auth2 {
        return Err(HandshakeFailure::Auth2NotOffered);
    }
    if nonce.len() > NONCE_TEXT {
        return Err(HandshakeFailure::BadNonce);
    }
    let nonce = STANDARD.decode(nonce).map_err(|_| HandshakeFailure::BadNonce)?;
    if !NONCE_BYTES.contains(&nonce.len()) {
        return Err(HandshakeFailure::BadNonce);
    }
    if !has_auth2 && auth2::is_like_a_statement(&nonce) {
        return Err(HandshakeFailure::StatementAsNonce);
    }
    if !credentials.signed.borrow_mut().note(&nonce) {
        return Err(HandshakeFailure::UsedNonce);
    }
    let client_nonce = credentials.client_nonce;
    let signed = if has_auth2 { auth2::statement(credentials.coordinator, &nonce, client_nonce) } else { nonce };
    Ok(AuthResponse {
        pubkey: STANDARD.encode(credentials.pubkey),
        signature: STANDARD.encode((credentials.sign)(&signed)),
        agent_version: credentials.agent_version.to_owned(),
        enrollment_code: credentials.enrollment_code.map(|code| code.reveal().to_owned()),
        extensions: offered,
        client_nonce: has_auth2.then(|| STANDARD.encode(client_nonce)),
        resume: credentials.resume.filter(|_| offered.contains(Extension::Resume)).cloned(),
    })
}

/// The session that an `auth_ok` opens, or goes on with if the response asked for that. `None` if its fields are not complete.
fn session(ok: AuthOk, resumes: bool) -> Option<SessionGrant> {
    let resumed = match (ok.resumed, ok.jobs) {
        (true, None) => return None,
        (resumed, jobs) => jobs.filter(|_| resumed && resumes),
    };
    Some(SessionGrant { name: ok.session?, window: ok.resume_window?, resumed })
}

fn rejected(reason: Option<String>, code: Option<&Secret>) -> HandshakeFailure {
    let mut reason = reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| NO_REASON.to_owned());
    // A coordinator may quote the code that it refuses, and the reason is logged.
    if let Some(code) = code.map(Secret::reveal).filter(|code| !code.is_empty()) {
        reason = reason.replace(code, "…");
    }
    HandshakeFailure::Rejected { reason: reason.chars().take(REASON_CHARS).collect() }
}

#[cfg(test)]
mod tests;
