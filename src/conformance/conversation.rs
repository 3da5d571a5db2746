//! A conversation with the coordinator: the steps of the protocol that the checks are made of.

use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::finding::{Finding, Received};
use super::peer::{End, Fragment, Peer};
use crate::core::session::auth2::statement;
use crate::identity::Identity;
use crate::messages::ids::ProviderId;
use crate::messages::secret::Secret;
use crate::transport::websocket::codec::{Frame, Role};
use crate::transport::websocket::link::Connector;

/// The model that is offered. No client requests it.
const MODEL: &str = "outpost-conformance";
/// The bytes of a nonce.
const NONCE: std::ops::RangeInclusive<usize> = 16..=256;

/// The coordinator under test, and the identity to use.
#[derive(Clone)]
pub struct Target {
    /// Dials the coordinator.
    pub connector: Rc<dyn Connector>,
    /// The key that the agent proves.
    pub identity: Identity,
    /// Sent while the identity has no provider id.
    pub enrollment_code: Option<Secret>,
    /// How long the coordinator may take for each step.
    pub step: Duration,
    /// How long the coordinator may wait for an agent that sends nothing during the handshake.
    pub handshake: Duration,
}

/// What a challenge contained.
pub(super) struct Challenge {
    pub(super) nonce: Vec<u8>,
    /// The names of the extensions on offer.
    pub(super) extensions: Vec<String>,
}

/// One connection.
pub(super) struct Conversation {
    peer: Peer,
    step: Duration,
    /// The largest message that the agent takes, in bytes.
    largest: usize,
    /// Whether the coordinator may send jobs. Each is refused.
    allows_jobs: bool,
}

impl Target {
    /// Opens a connection.
    pub(super) async fn open(&self) -> Result<Conversation, Finding> {
        let upgraded = self.connector.dial().await.map_err(Finding::NoConnection)?;
        let (peer, step) = (Peer::new(Role::Client, upgraded), self.step);
        Ok(Conversation { peer, step, largest: usize::MAX, allows_jobs: true })
    }

    /// Opens a connection and reads the challenge.
    pub(super) async fn challenged(&self) -> Result<(Conversation, Challenge), Finding> {
        let mut conversation = self.open().await?;
        let challenge = conversation.challenge().await?;
        Ok((conversation, challenge))
    }

    /// Opens a connection and authenticates.
    pub(super) async fn joined(&self) -> Result<Conversation, Finding> {
        self.joined_with(|_| {}).await
    }

    /// The same, with a change of the response to the challenge.
    pub(super) async fn joined_with(&self, change: impl FnOnce(&mut Value)) -> Result<Conversation, Finding> {
        let (mut conversation, challenge) = self.challenged().await?;
        let mut response = self.response(&challenge.nonce);
        change(&mut response);
        conversation.send(&response).await?;
        conversation.accepted().await?;
        Ok(conversation)
    }

    /// The response to a challenge that agrees on `auth2`. Its statement names the coordinator by this `host:port`.
    pub(super) fn statement(&self, challenge: &Challenge, coordinator: &str) -> Value {
        let client_nonce = rand::random();
        let signature = self.identity.sign(&statement(coordinator, &challenge.nonce, &client_nonce));
        let mut response = self.response(&challenge.nonce);
        response["extensions"] = json!(["auth2"]);
        response["client_nonce"] = STANDARD.encode(client_nonce).into();
        response["signature"] = STANDARD.encode(signature).into();
        response
    }

    /// The response to a challenge.
    pub(super) fn response(&self, nonce: &[u8]) -> Value {
        let mut response = json!({
            "type": "auth_response",
            "pubkey": self.identity.pubkey_base64(),
            "signature": STANDARD.encode(self.identity.sign(nonce)),
            "agent_version": env!("CARGO_PKG_VERSION"),
        });
        let code = self.enrollment_code.as_ref().filter(|_| self.identity.provider_id().is_none());
        if let Some(code) = code {
            response["enrollment_code"] = code.reveal().into();
        }
        response
    }
}

/// The capabilities of an agent with one model at this price, or without a model.
pub(super) fn capabilities(price: Option<u64>) -> Value {
    let model = |price: u64| {
        json!({"model_id": MODEL, "input_per_1m": price, "output_per_1m": price, "max_concurrent": 1,
               "backend": "openai"})
    };
    json!({"type": "capabilities", "models": price.map(model).into_iter().collect::<Vec<_>>(),
           "limits": {"max_concurrent_total": 1, "max_tokens_per_minute": null},
           "metadata": {"agent_version": env!("CARGO_PKG_VERSION")}})
}

impl Conversation {
    fn deadline(&self) -> Instant {
        Instant::now() + self.step
    }

    /// From now on a larger message is a violation.
    pub(super) fn allow_up_to(&mut self, bytes: usize) {
        self.largest = bytes;
    }

    /// From now on a job is a violation.
    pub(super) fn allow_no_jobs(&mut self) {
        self.allows_jobs = false;
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &Value) -> Result<(), Finding> {
        self.send_frame(&Frame::Text(message.to_string().into())).await
    }

    /// Sends any frame.
    pub(super) async fn send_frame(&mut self, frame: &Frame) -> Result<(), Finding> {
        let sent = self.peer.send(frame, self.deadline()).await;
        sent.map_err(|end| Finding::Ended("that the connection takes a frame", end))
    }

    /// Sends a message in two fragments, with a ping between them.
    pub(super) async fn send_fragmented(&mut self, message: &Value) -> Result<(), Finding> {
        let (deadline, text) = (self.deadline(), Bytes::from(message.to_string()));
        let (first, last) = (text.slice(..text.len() / 2), text.slice(text.len() / 2..));
        let peer = &mut self.peer;
        let sending = async {
            peer.send_fragment(&Frame::Text(first), Fragment::First, deadline).await?;
            peer.send(&Frame::Ping(Bytes::new()), deadline).await?;
            peer.send_fragment(&Frame::Text(last), Fragment::Last, deadline).await
        };
        sending.await.map_err(|end| Finding::Ended("that the connection takes fragments", end))
    }

    /// The next frame that is not a ping or a pong. Pings are answered.
    async fn next(&mut self, deadline: Instant) -> Result<Frame, End> {
        loop {
            match self.peer.next(deadline).await? {
                Frame::Ping(payload) => self.peer.send(&Frame::Pong(payload), deadline).await?,
                Frame::Pong(_) => {}
                frame => return Ok(frame),
            }
        }
    }

    /// The next message of the handshake.
    async fn message(&mut self, wanted: &'static str) -> Result<Value, Finding> {
        let frame = self.next(self.deadline()).await.map_err(|end| Finding::Ended(wanted, end))?;
        let Some(message) = object(&frame) else { return Err(Finding::Received(wanted, Received::of(&frame))) };
        if message["type"] != wanted {
            return Err(Finding::Received(wanted, Received::of(&frame)));
        }
        Ok(message)
    }

    async fn challenge(&mut self) -> Result<Challenge, Finding> {
        let message = self.message("auth_challenge").await?;
        let nonce = message["nonce"].as_str().ok_or(Finding::Field("nonce"))?;
        let nonce = STANDARD.decode(nonce).map_err(|_| Finding::NonceNotBase64)?;
        if !NONCE.contains(&nonce.len()) {
            return Err(Finding::NonceLength(nonce.len()));
        }
        let extensions = match message.get("extensions") {
            None => Vec::new(),
            Some(list) => serde_json::from_value(list.clone()).map_err(|_| Finding::Field("extensions"))?,
        };
        Ok(Challenge { nonce, extensions })
    }

    /// Waits for `auth_ok`, and returns it.
    pub(super) async fn accepted(&mut self) -> Result<Value, Finding> {
        let message = self.message("auth_ok").await?;
        match message.get("provider_id") {
            None | Some(Value::Null) => Ok(message),
            Some(Value::String(id)) if id.parse::<ProviderId>().is_ok() => Ok(message),
            Some(_) => Err(Finding::Field("provider_id")),
        }
    }

    /// Waits for `auth_failed`.
    pub(super) async fn rejected(&mut self) -> Result<(), Finding> {
        match self.message("auth_failed").await?.get("reason") {
            None | Some(Value::Null | Value::String(_)) => Ok(()),
            Some(_) => Err(Finding::Field("reason")),
        }
    }

    /// Waits until the coordinator ends the handshake: with `auth_failed`, a close or the end of the stream.
    pub(super) async fn handshake_fails(&mut self, limit: Duration) -> Result<(), Finding> {
        const WANTED: &str = "the end of the handshake";
        match self.next(Instant::now() + limit).await {
            Ok(Frame::Close { .. }) | Err(End::Eof | End::Broken(_)) => Ok(()),
            Err(end) => Err(Finding::Ended(WANTED, end)),
            Ok(frame) => match object(&frame).as_ref().and_then(|message| message["type"].as_str()) {
                Some("auth_failed") => Ok(()),
                Some("auth_ok") => Err(Finding::Accepted),
                _ => Err(Finding::Received(WANTED, Received::of(&frame))),
            },
        }
    }

    /// Checks that the connection still stands and that all that was sent has been read: a ping gets its pong. Jobs
    /// that arrive meanwhile are refused.
    pub(super) async fn stays(&mut self) -> Result<(), Finding> {
        const WANTED: &str = "a pong with the payload of the ping";
        let payload = Bytes::copy_from_slice(&rand::random::<[u8; 8]>());
        self.send_frame(&Frame::Ping(payload.clone())).await?;
        let deadline = self.deadline();
        loop {
            match self.peer.next(deadline).await.map_err(|end| Finding::Ended(WANTED, end))? {
                Frame::Pong(pong) if pong == payload => return Ok(()),
                Frame::Pong(_) => {}
                Frame::Ping(ping) => self.send_frame(&Frame::Pong(ping)).await?,
                frame => self.take(&frame).await?,
            }
        }
    }

    /// Takes a frame of the steady state: a JSON object with a type. A job is refused.
    async fn take(&mut self, frame: &Frame) -> Result<(), Finding> {
        let unexpected = || Err(Finding::Received("a frame of the steady state", Received::of(frame)));
        if let Frame::Text(text) = frame
            && text.len() > self.largest
        {
            return Err(Finding::TooLarge(text.len()));
        }
        let Some(message) = object(frame) else { return unexpected() };
        match message["type"].as_str() {
            None | Some("auth_challenge" | "auth_ok" | "auth_failed") => unexpected(),
            Some("job") if !self.allows_jobs => Err(Finding::Received("no job", Received::of(frame))),
            Some("job") => {
                let refusal = json!({"type": "job_error", "job_id": message["job_id"],
                    "error_code": "out_of_capacity", "message": "conformance check", "tokens_emitted": 0});
                self.send(&refusal).await
            }
            Some(_) => Ok(()),
        }
    }

    /// Closes, and waits for the coordinator's close and the end of the stream.
    pub(super) async fn close(&mut self) -> Result<(), Finding> {
        self.send_frame(&Frame::Close { code: Some(1000), reason: String::new() }).await?;
        let deadline = self.deadline();
        loop {
            match self.next(deadline).await.map_err(|end| Finding::Ended("a close frame", end))? {
                Frame::Close { .. } => break,
                frame => self.take(&frame).await?,
            }
        }
        match self.next(deadline).await {
            Err(End::Eof | End::Broken(_)) => Ok(()),
            Err(end) => Err(Finding::Ended("the end of the stream after the close frames", end)),
            Ok(frame) => Err(Finding::Received("the end of the stream after the close frames", Received::of(&frame))),
        }
    }
}

/// The JSON object in a text frame.
fn object(frame: &Frame) -> Option<Value> {
    let Frame::Text(text) = frame else { return None };
    serde_json::from_slice(text).ok().filter(Value::is_object)
}
