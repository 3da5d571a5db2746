//! The conformance checks find each violation of a scripted coordinator, and none of one that follows the protocol.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use outpost::conformance::{Check, End, Finding, Outcome, Peer, Target};
use outpost::internals::Role;
use outpost::messages::ids::JobId;
use outpost::testkit::{AgentHosts, Frame, Identity, Secret, WebSocketConnector, accept_websocket, client_config};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::fixture::Coordinator;

const CODE: &str = "open sesame, please";
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);
/// Where a coordinator is expected to stay silent.
const SHORT: Duration = Duration::from_millis(200);

/// What a scripted coordinator does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    ShortNonce,
    UnpaddedNonce,
    SameNonce,
    NumberAsProviderId,
    AcceptsAnySignature,
    RefusesUnknownAuthFields,
    SkipsBinaryInHandshake,
    SkipsTextInHandshake,
    AcceptsAnyType,
    WaitsForever,
    NeedsModels,
    RefusesChanges,
    RefusesHeartbeats,
    RefusesUnknownFields,
    RefusesUnknownTypes,
    RefusesUnknownJobs,
    RepeatsAuthOk,
    SendsBinary,
    NeverPongs,
    RefusesPongs,
    IgnoresClose,
    RefusesKnownKeys,
    RefusesSecondConnections,
    RefusesUnknownExtensions,
    RefusesBinaryChunks,
    SendsTooLarge,
    NamesNoSession,
    ResumesAnySession,
    IgnoresDrain,
    RefusesDrain,
    RefusesStatements,
    AcceptsAnyStatement,
    AcceptsBareNonces,
}

/// Each flaw, and the check that finds it.
const FOUND_BY: &[(Flaw, &str)] = &[
    (Flaw::ShortNonce, "challenge"),
    (Flaw::UnpaddedNonce, "challenge"),
    (Flaw::SameNonce, "fresh-nonce"),
    (Flaw::NumberAsProviderId, "auth-ok"),
    (Flaw::AcceptsAnySignature, "wrong-signature"),
    (Flaw::AcceptsAnySignature, "replayed-signature"),
    (Flaw::RefusesUnknownAuthFields, "unknown-auth-field"),
    (Flaw::SkipsBinaryInHandshake, "binary-before-auth"),
    (Flaw::SkipsTextInHandshake, "text-before-auth"),
    (Flaw::AcceptsAnyType, "other-type-before-auth"),
    (Flaw::WaitsForever, "silent-handshake"),
    (Flaw::NeedsModels, "no-models"),
    (Flaw::RefusesChanges, "changed-models"),
    (Flaw::RefusesHeartbeats, "heartbeat"),
    (Flaw::RefusesUnknownFields, "unknown-field"),
    (Flaw::RefusesUnknownTypes, "unknown-type"),
    (Flaw::RefusesUnknownJobs, "unknown-job"),
    (Flaw::RepeatsAuthOk, "second-auth-response"),
    (Flaw::SendsBinary, "ping"),
    (Flaw::NeverPongs, "ping"),
    (Flaw::NeverPongs, "fragments"),
    (Flaw::RefusesPongs, "unsolicited-pong"),
    (Flaw::IgnoresClose, "close"),
    (Flaw::RefusesKnownKeys, "reconnect"),
    (Flaw::RefusesSecondConnections, "newer-connection"),
    (Flaw::RefusesUnknownExtensions, "unknown-extension"),
    (Flaw::RefusesBinaryChunks, "binary-unknown-job"),
    (Flaw::IgnoresDrain, "drain"),
    (Flaw::RefusesDrain, "drain"),
    (Flaw::SendsTooLarge, "sizes"),
    (Flaw::NamesNoSession, "resume-session"),
    (Flaw::ResumesAnySession, "resume-unknown-session"),
    (Flaw::RefusesStatements, "auth2"),
    (Flaw::AcceptsAnyStatement, "auth2-other-coordinator"),
    (Flaw::AcceptsBareNonces, "auth2-bare-nonce"),
    (Flaw::AcceptsAnyStatement, "auth2-client-nonce"),
];

/// What the connections of one scripted coordinator share: for each key, how often it joined and how often it is there.
type Keys = Rc<RefCell<HashMap<Value, (u32, u32)>>>;

struct Script {
    peer: Peer,
    flaw: Flaw,
    handshake: Duration,
    keys: Keys,
    /// Its host and port.
    name: String,
}

/// Why a scripted coordinator ends a connection.
enum Leave {
    Close(u16),
    Gone,
}

impl From<End> for Leave {
    fn from(_: End) -> Self {
        Self::Gone
    }
}

impl Script {
    async fn send(&mut self, message: Value) -> Result<(), Leave> {
        Ok(self.peer.send(&Frame::Text(message.to_string().into()), Instant::now() + LONG).await?)
    }

    async fn run(&mut self) -> Result<(), Leave> {
        let nonce = match self.flaw {
            Flaw::ShortNonce => vec![1; 15],
            Flaw::SameNonce => vec![1; 32],
            _ => rand::random::<[u8; 32]>().to_vec(),
        };
        let engine = if self.flaw == Flaw::UnpaddedNonce { &STANDARD_NO_PAD } else { &STANDARD };
        let extensions = ["auth2", "binary", "drain", "resume", "sizes", "x_other"];
        self.send(json!({"type": "auth_challenge", "nonce": engine.encode(&nonce), "extensions": extensions})).await?;
        let key = self.authenticate(&nonce).await?;
        let (joined, there) = self.keys.borrow().get(&key).copied().unwrap_or_default();
        let refused = match self.flaw {
            Flaw::RefusesKnownKeys => joined > 0,
            Flaw::RefusesSecondConnections => there > 0,
            _ => false,
        };
        if refused {
            return Err(Leave::Close(1008));
        }
        self.keys.borrow_mut().insert(key.clone(), (joined + 1, there + 1));
        let end = self.steady().await;
        if let Some((_, there)) = self.keys.borrow_mut().get_mut(&key) {
            *there -= 1;
        }
        end
    }

    /// Takes the response to the challenge, and returns the key.
    async fn authenticate(&mut self, nonce: &[u8]) -> Result<Value, Leave> {
        let response: Value = loop {
            match self.peer.next(Instant::now() + self.handshake).await {
                Ok(Frame::Binary(_)) if self.flaw == Flaw::SkipsBinaryInHandshake => {}
                Ok(Frame::Text(text)) => match serde_json::from_slice(&text) {
                    Ok(message) => break message,
                    Err(_) if self.flaw == Flaw::SkipsTextInHandshake => {}
                    Err(_) => return Err(Leave::Close(1002)),
                },
                Ok(_) => return Err(Leave::Close(1002)),
                Err(End::Silence) => return Err(Leave::Close(1008)),
                Err(_) => return Err(Leave::Gone),
            }
        };
        let ok = json!({"type": "auth_ok", "provider_id": "agent-1"});
        if response["type"] != "auth_response" {
            let accepts = self.flaw == Flaw::AcceptsAnyType;
            return if accepts { self.send(ok).await.map(|()| Value::Null) } else { Err(Leave::Close(1002)) };
        }
        let field = |name: &str| STANDARD.decode(response[name].as_str().unwrap()).unwrap();
        let key = VerifyingKey::try_from(field("pubkey").as_slice()).unwrap();
        let signature = Signature::from_slice(&field("signature")).unwrap();
        let is_of = |bytes: &[u8]| key.verify_strict(bytes, &signature).is_ok();
        let is_signed = match response.get("client_nonce") {
            None => is_of(nonce),
            Some(_) => {
                let signed = statement(&self.name, nonce, &field("client_nonce"));
                match self.flaw {
                    Flaw::RefusesStatements => false,
                    Flaw::AcceptsAnyStatement => !is_of(nonce),
                    Flaw::AcceptsBareNonces => is_of(&signed) || is_of(nonce),
                    _ => is_of(&signed),
                }
            }
        };
        let is_signed = is_signed || self.flaw == Flaw::AcceptsAnySignature;
        let is_known = response.get("x_conformance").is_none() || self.flaw != Flaw::RefusesUnknownAuthFields;
        let is_offered = response["extensions"][0] != "x_conformance" || self.flaw != Flaw::RefusesUnknownExtensions;
        if !(is_signed && is_known && is_offered) {
            self.send(json!({"type": "auth_failed", "reason": "no"})).await?;
            return Err(Leave::Close(1008));
        }
        let id = if self.flaw == Flaw::NumberAsProviderId { 1.into() } else { ok["provider_id"].clone() };
        let mut ok = json!({"type": "auth_ok", "provider_id": id});
        if response["extensions"][0] == "resume" && self.flaw != Flaw::NamesNoSession {
            (ok["session"], ok["resume_window_ms"]) = ("session-1".into(), 60_000.into());
            ok["resumed"] = (self.flaw == Flaw::ResumesAnySession).into();
        }
        self.send(ok).await?;
        Ok(response["pubkey"].clone())
    }

    async fn steady(&mut self) -> Result<(), Leave> {
        let mut offers = 0;
        loop {
            let refused = match self.peer.next(Instant::now() + LONG).await? {
                Frame::Ping(_) if self.flaw == Flaw::NeverPongs => false,
                Frame::Ping(payload) => {
                    if self.flaw == Flaw::SendsBinary {
                        self.peer.send(&Frame::Binary("x".into()), Instant::now() + LONG).await?;
                    }
                    self.peer.send(&Frame::Pong(payload), Instant::now() + LONG).await?;
                    false
                }
                Frame::Pong(_) => self.flaw == Flaw::RefusesPongs,
                Frame::Close { .. } if self.flaw == Flaw::IgnoresClose => return Err(Leave::Gone),
                Frame::Close { code, .. } => return Err(Leave::Close(code.unwrap_or(1000))),
                Frame::Binary(_) => self.flaw == Flaw::RefusesBinaryChunks,
                Frame::Text(text) => {
                    let message: Value = serde_json::from_slice(&text).unwrap();
                    offers += u32::from(message["type"] == "capabilities");
                    if self.flaw == Flaw::IgnoresDrain && message["type"] == "capabilities" {
                        self.send(job(0)).await?;
                    }
                    if let (Flaw::SendsTooLarge, Some(most)) = (self.flaw, largest(&message)) {
                        self.send(job(most)).await?;
                    }
                    match message["type"].as_str().unwrap() {
                        "capabilities" if self.flaw == Flaw::NeedsModels => message["models"] == json!([]),
                        "capabilities" if self.flaw == Flaw::RefusesChanges => offers > 1,
                        "capabilities" if self.flaw == Flaw::RefusesUnknownFields => {
                            message.get("x_conformance").is_some()
                        }
                        "heartbeat" => self.flaw == Flaw::RefusesHeartbeats,
                        "x_conformance" => self.flaw == Flaw::RefusesUnknownTypes,
                        "drain" => self.flaw == Flaw::RefusesDrain,
                        "job_chunk" | "job_done" | "job_error" => self.flaw == Flaw::RefusesUnknownJobs,
                        "auth_response" if self.flaw == Flaw::RepeatsAuthOk => {
                            self.send(json!({"type": "auth_ok"})).await?;
                            false
                        }
                        _ => false,
                    }
                }
            };
            if refused {
                return Err(Leave::Close(1002));
            }
        }
    }
}

/// The largest frame that an agent takes, in bytes, if its message reports it.
fn largest(message: &Value) -> Option<usize> {
    message["limits"]["max_message_bytes"].as_u64().map(|bytes| bytes as usize)
}

/// A job with a request of more than so many bytes.
fn job(bytes: usize) -> Value {
    let request = json!({"x": "y".repeat(bytes)});
    json!({"type": "job", "job_id": JobId::random(), "model_id": "outpost-conformance", "request": request})
}

/// What `auth2` signs.
fn statement(coordinator: &str, nonce: &[u8], client_nonce: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| (part.len() as u32).to_be_bytes().to_vec();
    let parts = [coordinator.as_bytes(), nonce, client_nonce].map(|part| [length(part), part.to_vec()].concat());
    [b"outpost/auth/v2\0".to_vec(), parts.concat()].concat()
}

async fn serve(stream: TcpStream, flaw: Flaw, handshake: Duration, keys: Keys) {
    let name = stream.local_addr().unwrap().to_string();
    let Ok(upgraded) = accept_websocket(stream).await else { return };
    let mut script = Script { peer: Peer::new(Role::Server, upgraded), flaw, handshake, keys, name };
    if let Err(Leave::Close(code)) = script.run().await {
        let close = Frame::Close { code: Some(code), reason: String::new() };
        // The agent may have left already.
        let _ = script.peer.send(&close, Instant::now() + LONG).await;
    }
}

/// Starts a scripted coordinator, and returns its URL.
async fn scripted(flaw: Flaw, handshake: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/agent", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        let keys = Keys::default();
        while let Ok((stream, _)) = listener.accept().await {
            actix_rt::spawn(serve(stream, flaw, handshake, Rc::clone(&keys)));
        }
    });
    url
}

fn target(url: &str, limit: Duration) -> Target {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connector = WebSocketConnector::new(url.parse().unwrap(), client_config(None).unwrap(), None);
    Target {
        connector: Rc::new(connector),
        identity: Identity::ephemeral().unwrap(),
        enrollment_code: Some(Secret::new(CODE)),
        step: limit,
        handshake: limit,
    }
}

/// Runs all checks, with `silent` as the URL of the one that waits for the end of a silent handshake.
async fn violations(url: &str, silent: &str) -> Vec<(&'static str, Outcome)> {
    let (target, silent) = (target(url, LONG), target(silent, LONG));
    let mut found = Vec::new();
    for check in Check::ALL {
        let outcome = check.run(if check.name == "silent-handshake" { &silent } else { &target }).await;
        if outcome != Outcome::Ok {
            found.push((check.name, outcome));
        }
    }
    found
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn our_coordinator_conforms() {
    let start = async |handshake| {
        Coordinator::start_with(|config| {
            config.enrollment_code = Some(Secret::new(CODE));
            config.handshake_timeout = handshake;
            config.agent_hosts = AgentHosts::OwnAddress;
        })
        .await
    };
    let (coordinator, silent) = (start(LONG).await, start(SHORT).await);
    assert_eq!(violations(coordinator.agent_url(), silent.agent_url()).await, []);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_scripted_coordinator_without_a_flaw_conforms() {
    let (url, silent) = (scripted(Flaw::None, LONG).await, scripted(Flaw::None, SHORT).await);
    assert_eq!(violations(&url, &silent).await, []);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_flaw_is_found() {
    for (flaw, name) in FOUND_BY {
        let check = Check::ALL.iter().find(|check| check.name == *name).unwrap();
        let outcome = check.run(&target(&scripted(*flaw, LONG).await, SHORT)).await;
        assert!(matches!(outcome, Outcome::Violated(_)), "{flaw:?} was not found by {name}");
    }
}

#[test]
fn each_check_finds_a_flaw_and_has_a_name_of_its_own() {
    for (at, check) in Check::ALL.iter().enumerate() {
        assert!(FOUND_BY.iter().any(|(_, name)| *name == check.name), "{}", check.name);
        assert!(Check::ALL[..at].iter().all(|other| other.name != check.name), "{}", check.name);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_address_where_no_one_listens_is_a_violation_of_each_rule() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/agent", listener.local_addr().unwrap());
    drop(listener);
    for check in Check::ALL {
        let outcome = check.run(&target(&url, LONG)).await;
        assert!(matches!(outcome, Outcome::Violated(Finding::NoConnection(_))), "{}", check.name);
    }
}
