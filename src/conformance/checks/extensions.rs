//! The checks of the extensions. Each is skipped if the coordinator does not offer its extension.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::conformance::conversation::{Conversation, Target, capabilities};
use crate::conformance::finding::{Finding, Outcome};
use crate::core::session::auth2::CLIENT_NONCE;
use crate::messages::ids::{JobId, SessionName};
use crate::messages::wire::{BinaryChunk, EXTENSION_TIMES};
use crate::transport::websocket::codec::Frame;

/// The largest frame that an agent takes in the check of `sizes`, in bytes.
const SMALL_MESSAGE: usize = 64 << 10;

/// The extensions that the coordinator offers.
async fn offered(target: &Target) -> Result<Vec<String>, Finding> {
    Ok(target.challenged().await?.1.extensions)
}

pub(super) async fn unknown_extension(target: &Target) -> Result<Outcome, Finding> {
    if offered(target).await?.is_empty() {
        return Ok(Outcome::NotOffered);
    }
    let mut conversation = target.joined_with(|response| response["extensions"] = json!(["x_conformance"])).await?;
    conversation.stays().await?;
    Ok(Outcome::Ok)
}

/// A connection on which only this extension is agreed. `None` if it is not offered.
async fn agreed(target: &Target, name: &str) -> Result<Option<Conversation>, Finding> {
    if !offered(target).await?.iter().any(|offered| offered == name) {
        return Ok(None);
    }
    target.joined_with(|response| response["extensions"] = json!([name])).await.map(Some)
}

pub(super) async fn binary_job(target: &Target) -> Result<Outcome, Finding> {
    let Some(mut conversation) = agreed(target, "binary").await? else { return Ok(Outcome::NotOffered) };
    let head = BinaryChunk::head(JobId::random().uuid(), 0);
    conversation.send_frame(&Frame::Binary([&head[..], b"hello"].concat().into())).await?;
    conversation.stays().await?;
    Ok(Outcome::Ok)
}

pub(super) async fn drain(target: &Target) -> Result<Outcome, Finding> {
    for in_flight in [0, 1] {
        let Some(mut conversation) = agreed(target, "drain").await? else { return Ok(Outcome::NotOffered) };
        conversation.send(&capabilities(Some(500_000))).await?;
        conversation.stays().await?;
        conversation.send(&json!({"type": "drain", "in_flight": in_flight})).await?;
        // Jobs that were sent before the coordinator read the drain.
        conversation.stays().await?;
        conversation.allow_no_jobs();
        conversation.send(&capabilities(Some(500_000))).await?;
        conversation.stays().await?;
        conversation.stays().await?;
        conversation.close().await?;
    }
    Ok(Outcome::Ok)
}

pub(super) async fn sizes(target: &Target) -> Result<Outcome, Finding> {
    let Some(mut conversation) = agreed(target, "sizes").await? else { return Ok(Outcome::NotOffered) };
    let mut message = capabilities(Some(500_000));
    message["limits"]["max_message_bytes"] = SMALL_MESSAGE.into();
    conversation.allow_up_to(SMALL_MESSAGE);
    conversation.send(&message).await?;
    conversation.stays().await?;
    conversation.stays().await?;
    Ok(Outcome::Ok)
}

/// The `auth_ok` of a connection on which `resume` is agreed, with its session checked. The response asks for `resume`, if that
/// is given. `None` if the extension is not offered.
async fn session(target: &Target, resume: Option<Value>) -> Result<Option<Value>, Finding> {
    let (mut conversation, challenge) = target.challenged().await?;
    if !challenge.extensions.iter().any(|name| name == "resume") {
        return Ok(None);
    }
    let mut response = target.response(&challenge.nonce);
    response["extensions"] = json!(["resume"]);
    if let Some(resume) = resume {
        response["resume"] = resume;
    }
    conversation.send(&response).await?;
    let ok = conversation.accepted().await?;
    if ok["session"].as_str().is_none_or(|name| name.parse::<SessionName>().is_err()) {
        return Err(Finding::Field("session"));
    }
    let window = ok["resume_window_ms"].as_u64().map(Duration::from_millis);
    if window.is_none_or(|window| !EXTENSION_TIMES.contains(&window)) {
        return Err(Finding::Field("resume_window_ms"));
    }
    Ok(Some(ok))
}

pub(super) async fn new_session(target: &Target) -> Result<Outcome, Finding> {
    Ok(session(target, None).await?.map_or(Outcome::NotOffered, |_| Outcome::Ok))
}

pub(super) async fn unknown_session(target: &Target) -> Result<Outcome, Finding> {
    let jobs = json!([{"job_id": JobId::random(), "offset": 5, "ended": false}]);
    match session(target, Some(json!({"session": "x-conformance", "jobs": jobs}))).await? {
        None => Ok(Outcome::NotOffered),
        Some(ok) if ok["resumed"] == true => Err(Finding::Resumed),
        Some(_) => Ok(Outcome::Ok),
    }
}

/// Answers a challenge that offers `auth2` with a right response, as far as `change` leaves it one.
async fn statement(
    target: &Target,
    coordinator: &str,
    change: impl FnOnce(&mut Value, &[u8]),
) -> Result<Option<Conversation>, Finding> {
    let (mut conversation, challenge) = target.challenged().await?;
    if !challenge.extensions.iter().any(|name| name == "auth2") {
        return Ok(None);
    }
    let mut response = target.statement(&challenge, coordinator);
    change(&mut response, &challenge.nonce);
    conversation.send(&response).await?;
    Ok(Some(conversation))
}

/// Answers such a challenge, and expects that the response is refused.
async fn refused(
    target: &Target,
    coordinator: &str,
    change: impl FnOnce(&mut Value, &[u8]),
) -> Result<Outcome, Finding> {
    match statement(target, coordinator, change).await? {
        None => Ok(Outcome::NotOffered),
        Some(mut conversation) => conversation.rejected().await.map(|()| Outcome::Ok),
    }
}

pub(super) async fn auth2(target: &Target) -> Result<Outcome, Finding> {
    match statement(target, target.connector.target(), |_, _| {}).await? {
        None => Ok(Outcome::NotOffered),
        Some(mut conversation) => conversation.accepted().await.map(|_| Outcome::Ok),
    }
}

pub(super) async fn auth2_other(target: &Target) -> Result<Outcome, Finding> {
    refused(target, "conformance.invalid:443", |_, _| {}).await
}

pub(super) async fn auth2_bare(target: &Target) -> Result<Outcome, Finding> {
    refused(target, target.connector.target(), |response, nonce| {
        response["signature"] = target.response(nonce)["signature"].take();
    })
    .await
}

pub(super) async fn auth2_nonce(target: &Target) -> Result<Outcome, Finding> {
    refused(target, target.connector.target(), |response, _| {
        response["client_nonce"] = STANDARD.encode(rand::random::<[u8; CLIENT_NONCE]>()).into();
    })
    .await
}
