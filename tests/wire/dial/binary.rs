//! The binary as an operator runs it, against a coordinator behind TLS of a private authority.

use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use ed25519_dalek::{Signature, VerifyingKey};
use outpost::internals::{FrameReader, Role, encode};
use outpost::messages::wire::FromAgent;
use outpost::testkit::Frame;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::server::TlsStream;

use super::authority::Authority;
use super::server::{Server, secure, upgrade, within};

/// An agent of this coordinator. It is killed when dropped.
fn agent(coordinator: &Server, home: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outpost"));
    command
        .arg("run")
        .env_clear()
        .env("OUTPOST_COORDINATOR_URL", coordinator.url("wss", "localhost"))
        .env("OUTPOST_IDENTITY_PATH", home.path().join("identity.key"))
        .env("OUTPOST_BACKENDS", "openai=http://127.0.0.1:1")
        .env("OUTPOST_STATUS_ADDR", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The coordinator's end of an open WebSocket.
struct Session {
    stream: TlsStream<TcpStream>,
    frames: FrameReader,
}

impl Session {
    async fn send(&mut self, message: &Value) {
        let mut bytes = BytesMut::new();
        encode(&mut bytes, Role::Server, &Frame::Text(Bytes::from(message.to_string())));
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next text.
    async fn text(&mut self) -> Bytes {
        loop {
            match self.frames.pop().unwrap() {
                Some(Frame::Text(text)) => return text,
                Some(_) => {}
                None => {
                    let read = within("frame", self.stream.read_buf(self.frames.space())).await.unwrap();
                    assert_ne!(read, 0, "the agent left");
                }
            }
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_agent_joins_a_coordinator_of_the_operators_authority() {
    let authority = Authority::new();
    let (coordinator, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let config = authority.issue("localhost").server();
    let _agent: Child = agent(&coordinator, &home).env("OUTPOST_CA_FILE", authority.file()).spawn().unwrap();
    let (mut stream, hello) = secure(coordinator.tcp().await, config).await.unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("localhost"));
    upgrade(&mut stream, b"").await;
    let mut session = Session { stream, frames: FrameReader::new(Role::Server, 1 << 20, BytesMut::new()) };

    let nonce: [u8; 32] = rand::random();
    session.send(&json!({"type": "auth_challenge", "nonce": STANDARD.encode(nonce)})).await;
    let answer: Value = serde_json::from_slice(&session.text().await).unwrap();
    assert_eq!(answer["type"], "auth_response");
    let field = |name: &str| STANDARD.decode(answer[name].as_str().unwrap()).unwrap();
    let key = VerifyingKey::try_from(field("pubkey").as_slice()).unwrap();
    key.verify_strict(&nonce, &Signature::from_slice(&field("signature")).unwrap()).unwrap();
    session.send(&json!({"type": "auth_ok", "provider_id": "agent-7"})).await;
    let first: FromAgent = serde_json::from_slice(&session.text().await).unwrap();
    assert!(matches!(first, FromAgent::Capabilities(_)), "{first:?}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_the_file_the_agent_does_not_connect() {
    let authority = Authority::new();
    let (coordinator, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let config = authority.issue("localhost").server();
    let _agent: Child = agent(&coordinator, &home).spawn().unwrap();
    let served = async {
        let (mut stream, _) = secure(coordinator.tcp().await, config).await?;
        within("end of the connection", stream.read_u8()).await
    };
    let error = served.await.unwrap_err();
    let why = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    assert_eq!(why, Some(&rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA)));
}
