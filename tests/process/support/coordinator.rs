//! A coordinator that does what the test says, over TCP, without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use ed25519_dalek::{Signature, VerifyingKey};
use outpost::messages::ids::JobId;
use outpost::messages::wire::{ErrorCode, FromAgent, JobDone, JobError};
use outpost::transport::websocket::codec::{Frame, FrameReader, Role, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::within;

/// A fresh job for a model, in the form that most tests send.
pub(crate) fn job(model: &str) -> (JobId, String) {
    job_with(model, &json!({"messages": [{"role": "user", "content": "hello"}]}).to_string())
}

/// A fresh job with this request.
pub(crate) fn job_with(model: &str, request: &str) -> (JobId, String) {
    let id = uuid::Uuid::new_v4();
    let frame = format!(r#"{{"type":"job","job_id":"{id}","model_id":"{model}","request":{request}}}"#);
    (id.to_string().parse().unwrap(), frame)
}

/// The listening socket.
pub(crate) struct Coordinator {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/agent", self.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next connection, before its upgrade.
    pub(crate) async fn tcp(&self) -> TcpStream {
        within("connection to the coordinator", self.listener.accept()).await.unwrap().0
    }

    /// The next connection, upgraded.
    pub(crate) async fn accept(&self) -> Session {
        Session::upgrade(self.tcp().await).await
    }

    /// The next connection, authenticated.
    pub(crate) async fn join(&self) -> Session {
        let mut session = self.accept().await;
        session.challenge().await;
        session.send(r#"{"type":"auth_ok"}"#).await;
        session
    }

    /// The next connection, as soon as it offers this model.
    pub(crate) async fn serving(&self, model: &str) -> Session {
        let mut session = self.join().await;
        session.offered(model).await;
        session
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    Done(JobDone),
    Failed(JobError),
}

impl Terminal {
    #[track_caller]
    pub(crate) fn done(self) -> JobDone {
        match self {
            Self::Done(done) => done,
            Self::Failed(error) => panic!("{error:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn failed(self) -> JobError {
        match self {
            Self::Failed(error) => error,
            Self::Done(_) => panic!("the job ended well"),
        }
    }

    #[track_caller]
    pub(crate) fn assert_code(self, code: ErrorCode) {
        assert_eq!(self.failed().error_code, code);
    }
}

/// How the agent left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close(Option<u16>),
    Eof,
    Reset,
}

/// One connection after its upgrade.
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    frames: FrameReader,
}

impl Session {
    async fn upgrade(mut stream: TcpStream) -> Self {
        let request = read_head(&mut stream).await;
        let header = |name: &str| {
            request.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        assert!(request.starts_with("GET /agent"), "{request}");
        assert_eq!(header("sec-websocket-version").as_deref(), Some("13"));
        let accept = actix_http::ws::hash_key(header("sec-websocket-key").unwrap().as_bytes());
        let accept = std::str::from_utf8(&accept).unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        Self { stream, frames: FrameReader::new(Role::Server, 64 << 20, BytesMut::new()) }
    }

    /// Challenges the agent, checks its signature, and returns its answer.
    pub(crate) async fn challenge(&mut self) -> Value {
        let nonce: [u8; 32] = rand::random();
        self.send(&json!({"type": "auth_challenge", "nonce": STANDARD.encode(nonce)}).to_string()).await;
        let Frame::Text(text) = self.frame().await else { panic!("the answer is no text") };
        let answer: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(answer["type"], "auth_response");
        let field = |name: &str| STANDARD.decode(answer[name].as_str().unwrap()).unwrap();
        let key = VerifyingKey::try_from(field("pubkey").as_slice()).unwrap();
        key.verify_strict(&nonce, &Signature::from_slice(&field("signature")).unwrap()).unwrap();
        answer
    }

    /// Sends a text frame.
    pub(crate) async fn send(&mut self, text: &str) {
        self.send_frame(&Frame::Text(Bytes::copy_from_slice(text.as_bytes()))).await;
    }

    pub(crate) async fn send_frame(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        encode(&mut bytes, Role::Server, frame);
        self.send_raw(&bytes).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        within("room for bytes to the agent", self.stream.write_all(bytes)).await.unwrap();
    }

    /// Starts a job and returns its id.
    pub(crate) async fn start_job(&mut self, model: &str) -> JobId {
        let (id, frame) = job(model);
        self.send(&frame).await;
        id
    }

    /// The next frame, whatever it is.
    async fn frame_or_end(&mut self) -> Result<Frame, End> {
        loop {
            if let Some(frame) = self.frames.pop().unwrap() {
                return Ok(frame);
            }
            match within("frame from the agent", self.stream.read_buf(self.frames.space())).await {
                Ok(0) => return Err(End::Eof),
                Ok(_) => {}
                Err(_) => return Err(End::Reset),
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        self.frame_or_end().await.unwrap()
    }

    /// The next message that is no heartbeat. Pings are answered.
    pub(crate) async fn message(&mut self) -> FromAgent {
        loop {
            match self.frame().await {
                Frame::Text(text) => match serde_json::from_slice(&text).unwrap() {
                    FromAgent::Heartbeat(_) => {}
                    message => return message,
                },
                Frame::Ping(payload) => self.send_frame(&Frame::Pong(payload)).await,
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Waits until this model is on offer.
    pub(crate) async fn offered(&mut self, model: &str) {
        loop {
            if let FromAgent::Capabilities(offer) = self.message().await
                && offer.models.iter().any(|offered| offered.model_id.as_str() == model)
            {
                return;
            }
        }
    }

    /// The next chunk of a job, which must come next.
    pub(crate) async fn chunk(&mut self, job: JobId) -> Vec<u8> {
        match self.message().await {
            FromAgent::JobChunk(chunk) if chunk.job_id == job => STANDARD.decode(chunk.data).unwrap(),
            other => panic!("no chunk of the job: {other:?}"),
        }
    }

    /// All that is left of a job. Nothing else may come.
    pub(crate) async fn rest(&mut self, job: JobId) -> (Vec<u8>, Terminal) {
        let mut bytes = Vec::new();
        loop {
            match self.message().await {
                FromAgent::JobChunk(chunk) if chunk.job_id == job => bytes.extend(STANDARD.decode(chunk.data).unwrap()),
                FromAgent::JobDone(done) if done.job_id == job => return (bytes, Terminal::Done(done)),
                FromAgent::JobError(error) if error.job_id == job => return (bytes, Terminal::Failed(error)),
                other => panic!("not of the job: {other:?}"),
            }
        }
    }

    /// Returns when the agent has read all that was sent before.
    pub(crate) async fn settle(&mut self) {
        self.send_frame(&Frame::Ping(Bytes::from_static(b"settle"))).await;
        loop {
            match self.frame().await {
                Frame::Pong(payload) if payload == "settle" => return,
                Frame::Text(text) => {
                    let message: FromAgent = serde_json::from_slice(&text).unwrap();
                    let harmless = matches!(message, FromAgent::Heartbeat(_) | FromAgent::Capabilities(_));
                    assert!(harmless, "{message:?}");
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Waits for the end. Frames before it are not looked at.
    pub(crate) async fn end(&mut self) -> End {
        loop {
            match self.frame_or_end().await {
                Ok(Frame::Close { code, .. }) => return End::Close(code),
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        reset(self.stream);
    }
}

/// Ends a connection with a reset: the peer sees no end of stream but an error.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// The head of an HTTP request.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("request to the coordinator", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
