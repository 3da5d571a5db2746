//! The checks, one row each: its name, the section of the protocol, the rule, and how it is checked.

use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};

use self::extensions::{
    auth2, auth2_bare, auth2_nonce, auth2_other, binary_job, drain, new_session, sizes, unknown_extension,
    unknown_session,
};
use super::conversation::{Target, capabilities};
use super::finding::{Finding, Outcome};
use crate::messages::ids::JobId;
use crate::transport::websocket::codec::Frame;

mod extensions;

type Run = for<'a> fn(&'a Target) -> LocalBoxFuture<'a, Result<Outcome, Finding>>;

/// The part of the protocol that a rule belongs to. The sections are those of `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Section 1.
    Handshake,
    /// Sections 2 and 3.
    SteadyState,
    /// Section 4.
    End,
    /// Section 5.
    Extensions,
}

impl Group {
    /// The number of its section, or of the first of them.
    pub fn section(self) -> u8 {
        match self {
            Self::Handshake => 1,
            Self::SteadyState => 2,
            Self::End => 4,
            Self::Extensions => 5,
        }
    }
}

/// A rule, and how it is checked.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name. No two checks have the same one.
    pub name: &'static str,
    /// Where it is from.
    pub group: Group,
    /// What it demands.
    pub rule: &'static str,
    run: Run,
}

macro_rules! check {
    ($name:literal, $group:ident, $rule:literal, $run:ident) => {
        Check { name: $name, group: Group::$group, rule: $rule, run: |target| Box::pin($run(target)) }
    };
}

impl Check {
    /// All checks, in the order of the protocol.
    pub const ALL: &[Self] = &[
        check!("challenge", Handshake, "the first frame is auth_challenge with a nonce of 16 to 256 bytes", challenge),
        check!("fresh-nonce", Handshake, "each connection gets a nonce of its own", fresh_nonce),
        check!("auth-ok", Handshake, "a right signature is answered with auth_ok", auth_ok),
        check!("wrong-signature", Handshake, "a wrong signature is answered with auth_failed", wrong_signature),
        check!("replayed-signature", Handshake, "a signature of another nonce is answered with auth_failed", replayed),
        check!("unknown-auth-field", Handshake, "unknown fields of auth_response are ignored", unknown_auth_field),
        check!("binary-before-auth", Handshake, "a binary frame fails the handshake", binary_before_auth),
        check!("text-before-auth", Handshake, "text that is not JSON fails the handshake", text_before_auth),
        check!("other-type-before-auth", Handshake, "any other type fails the handshake", type_before_auth),
        check!("silent-handshake", Handshake, "an agent that does not answer the challenge is dropped", silence),
        check!("no-models", SteadyState, "capabilities without a model are accepted", no_models),
        check!("changed-models", SteadyState, "changed capabilities are accepted", changed_models),
        check!("heartbeat", SteadyState, "heartbeats are accepted, with and without a last error", heartbeat),
        check!("unknown-field", SteadyState, "unknown fields are ignored", unknown_field),
        check!("unknown-type", SteadyState, "a frame of an unknown type is ignored", unknown_type),
        check!("unknown-job", SteadyState, "frames of a job that has ended are ignored", unknown_job),
        check!("second-auth-response", SteadyState, "the handshake is not repeated on a connection", second_auth),
        check!("ping", SteadyState, "each ping is answered with a pong of its payload", ping),
        check!("unsolicited-pong", SteadyState, "a pong without a ping is ignored", unsolicited_pong),
        check!("fragments", SteadyState, "a message may be fragmented, with a ping between fragments", fragments),
        check!("close", End, "a close is answered with a close, and the connection ends", close),
        check!("reconnect", End, "an agent may come back after a close, and after a lost connection", reconnect),
        check!("newer-connection", End, "a second connection of the same key is accepted", newer_connection),
        check!("unknown-extension", Extensions, "extensions that were not offered are ignored", unknown_extension),
        check!("binary-unknown-job", Extensions, "binary chunks of a job that has ended are ignored", binary_job),
        check!("drain", Extensions, "an agent that announces a drain gets no new job and can finish", drain),
        check!("sizes", Extensions, "no frame is larger than the agent reports that it takes", sizes),
        check!("resume-session", Extensions, "auth_ok names a session and how long it is kept", new_session),
        check!("resume-unknown-session", Extensions, "a session that was never opened is not resumed", unknown_session),
        check!("auth2", Extensions, "a statement that names the coordinator as in its URL is accepted", auth2),
        check!("auth2-other-coordinator", Extensions, "a statement that names another one is refused", auth2_other),
        check!("auth2-bare-nonce", Extensions, "a signature of the nonce alone is refused with auth2", auth2_bare),
        check!("auth2-client-nonce", Extensions, "a statement with another client_nonce is refused", auth2_nonce),
    ];

    /// Runs the check.
    pub async fn run(&self, target: &Target) -> Outcome {
        (self.run)(target).await.unwrap_or_else(Outcome::Violated)
    }
}

async fn challenge(target: &Target) -> Result<Outcome, Finding> {
    target.challenged().await?;
    Ok(Outcome::Ok)
}

async fn fresh_nonce(target: &Target) -> Result<Outcome, Finding> {
    let ((_first, one), (_second, other)) = (target.challenged().await?, target.challenged().await?);
    if one.nonce == other.nonce { Err(Finding::NonceRepeated) } else { Ok(Outcome::Ok) }
}

async fn auth_ok(target: &Target) -> Result<Outcome, Finding> {
    target.joined().await?.stays().await?;
    Ok(Outcome::Ok)
}

async fn wrong_signature(target: &Target) -> Result<Outcome, Finding> {
    let (mut conversation, mut challenge) = target.challenged().await?;
    if let Some(byte) = challenge.nonce.first_mut() {
        *byte ^= 1;
    }
    conversation.send(&target.response(&challenge.nonce)).await?;
    conversation.rejected().await?;
    Ok(Outcome::Ok)
}

async fn replayed(target: &Target) -> Result<Outcome, Finding> {
    let (_first, earlier) = target.challenged().await?;
    let (mut conversation, _) = target.challenged().await?;
    conversation.send(&target.response(&earlier.nonce)).await?;
    conversation.rejected().await?;
    Ok(Outcome::Ok)
}

async fn unknown_auth_field(target: &Target) -> Result<Outcome, Finding> {
    target.joined_with(|response| response["x_conformance"] = json!({"a": [1]})).await?;
    Ok(Outcome::Ok)
}

/// Sends a frame in the place of the response to the challenge.
async fn instead_of_auth(target: &Target, frame: Frame) -> Result<Outcome, Finding> {
    let (mut conversation, _) = target.challenged().await?;
    conversation.send_frame(&frame).await?;
    conversation.handshake_fails(target.step).await?;
    Ok(Outcome::Ok)
}

async fn binary_before_auth(target: &Target) -> Result<Outcome, Finding> {
    instead_of_auth(target, Frame::Binary(vec![1; 32].into())).await
}

async fn text_before_auth(target: &Target) -> Result<Outcome, Finding> {
    instead_of_auth(target, Frame::Text("not json".into())).await
}

async fn type_before_auth(target: &Target) -> Result<Outcome, Finding> {
    instead_of_auth(target, Frame::Text(capabilities(None).to_string().into())).await
}

async fn silence(target: &Target) -> Result<Outcome, Finding> {
    let (mut conversation, _) = target.challenged().await?;
    conversation.handshake_fails(target.handshake).await?;
    Ok(Outcome::Ok)
}

/// Sends messages after the handshake. The connection must stay.
async fn steady(target: &Target, messages: impl IntoIterator<Item = Value>) -> Result<Outcome, Finding> {
    let mut conversation = target.joined().await?;
    conversation.send(&capabilities(Some(500_000))).await?;
    for message in messages {
        conversation.send(&message).await?;
        conversation.stays().await?;
    }
    Ok(Outcome::Ok)
}

async fn no_models(target: &Target) -> Result<Outcome, Finding> {
    let mut conversation = target.joined().await?;
    conversation.send(&capabilities(None)).await?;
    conversation.stays().await?;
    Ok(Outcome::Ok)
}

async fn changed_models(target: &Target) -> Result<Outcome, Finding> {
    steady(target, [capabilities(Some(500_000)), capabilities(Some(750_000)), capabilities(None)]).await
}

async fn heartbeat(target: &Target) -> Result<Outcome, Finding> {
    let quiet = json!({"type": "heartbeat", "queue_depth": 0, "tokens_per_sec_p50": 0.0, "p50_latency_ms": 0,
        "p95_latency_ms": 0, "error_rate_60s": 0.0, "last_error_at": null, "last_error_code": null});
    let busy = json!({"type": "heartbeat", "queue_depth": 3, "tokens_per_sec_p50": 41.7, "p50_latency_ms": 812,
        "p95_latency_ms": 2040, "error_rate_60s": 0.02, "last_error_at": "2026-11-23T14:00:00Z",
        "last_error_code": "backend_timeout"});
    steady(target, [quiet, busy]).await
}

async fn unknown_field(target: &Target) -> Result<Outcome, Finding> {
    let mut message = capabilities(Some(500_000));
    message["x_conformance"] = json!({"a": [1, null]});
    message["models"][0]["x_conformance"] = "b".into();
    message["limits"]["x_conformance"] = 1.into();
    message["metadata"]["x_conformance"] = true.into();
    steady(target, [message]).await
}

async fn unknown_type(target: &Target) -> Result<Outcome, Finding> {
    steady(target, [json!({"type": "x_conformance", "models": 1})]).await
}

async fn unknown_job(target: &Target) -> Result<Outcome, Finding> {
    let job_id = JobId::random();
    let chunk = json!({"type": "job_chunk", "job_id": job_id, "data": "aGVsbG8="});
    let tokens = json!({"input": 1, "output": 2, "input_tokens": 1, "output_tokens": 2});
    let done = json!({"type": "job_done", "job_id": job_id, "tokens": tokens, "duration_ms": 3});
    let error = json!({"type": "job_error", "job_id": job_id, "error_code": "internal", "message": "conformance check",
        "tokens_emitted": 5});
    steady(target, [chunk, done, error]).await
}

async fn second_auth(target: &Target) -> Result<Outcome, Finding> {
    let (mut conversation, challenge) = target.challenged().await?;
    let response = target.response(&challenge.nonce);
    conversation.send(&response).await?;
    conversation.accepted().await?;
    conversation.send(&response).await?;
    match conversation.stays().await {
        // To end the connection is allowed as well.
        Ok(()) | Err(Finding::Ended(..)) => Ok(Outcome::Ok),
        Err(Finding::Received(_, received)) if received.is_close() => Ok(Outcome::Ok),
        Err(finding) => Err(finding),
    }
}

async fn ping(target: &Target) -> Result<Outcome, Finding> {
    let mut conversation = target.joined().await?;
    for _ in 0..3 {
        conversation.stays().await?;
    }
    Ok(Outcome::Ok)
}

async fn unsolicited_pong(target: &Target) -> Result<Outcome, Finding> {
    let mut conversation = target.joined().await?;
    conversation.send_frame(&Frame::Pong("unsolicited".into())).await?;
    conversation.stays().await?;
    Ok(Outcome::Ok)
}

async fn fragments(target: &Target) -> Result<Outcome, Finding> {
    let mut conversation = target.joined().await?;
    conversation.send_fragmented(&capabilities(Some(500_000))).await?;
    conversation.stays().await?;
    Ok(Outcome::Ok)
}

async fn close(target: &Target) -> Result<Outcome, Finding> {
    target.joined().await?.close().await?;
    Ok(Outcome::Ok)
}

async fn reconnect(target: &Target) -> Result<Outcome, Finding> {
    target.joined().await?.close().await?;
    drop(target.joined().await?);
    target.joined().await?.stays().await?;
    Ok(Outcome::Ok)
}

async fn newer_connection(target: &Target) -> Result<Outcome, Finding> {
    let _older = target.joined().await?;
    target.joined().await?.stays().await?;
    Ok(Outcome::Ok)
}
