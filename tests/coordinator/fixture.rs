//! A coordinator on a free port, agents that do what the test says, and a client. All waits have a deadline.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use actix_codec::Framed;
use awc::BoxedSocket;
use awc::ws::{Codec, Frame, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use outpost::coordinator::{CoordinatorConfig, CoordinatorHandle, bind};
use outpost::messages::endpoint::{Endpoint, Endpoints};
use outpost::messages::ids::{JobId, ModelId};
use outpost::messages::wire::{
    AuthResponse, BinaryChunk, Capabilities, ErrorCode, Extension, Extensions, FromAgent, FromCoordinator, JobChunk,
    JobDone, JobError, JobFrame, Limits, Metadata, ModelOffer, Tokens,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What an event may take. Only a broken test takes it.
const SOON: Duration = Duration::from_secs(10);

/// Waits for something that is bound to come.
pub async fn soon<F: Future>(future: F) -> F::Output {
    actix_rt::time::timeout(SOON, future).await.expect("it did not happen in time")
}

/// The key of the agent with this number.
pub fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// The provider id that goes with the key.
pub fn provider_id(key: &SigningKey) -> String {
    let hex: String = key.verifying_key().as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("agent-{hex}")
}

pub struct Coordinator {
    pub addr: SocketAddr,
    pub handle: CoordinatorHandle,
}

impl Coordinator {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = CoordinatorConfig::new(([127, 0, 0, 1], 0).into());
        change(&mut config);
        let server = bind(config).expect("it binds");
        let (addr, handle) = (server.local_addr(), server.handle());
        actix_rt::spawn(server.run());
        Self { addr, handle }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn get(&self, path: &str) -> awc::ClientRequest {
        client().get(self.url(path)).timeout(SOON)
    }

    pub fn post(&self, path: &str) -> awc::ClientRequest {
        client().post(self.url(path)).content_type("application/json").timeout(SOON)
    }

    /// Posts a body and takes the whole answer.
    pub async fn ask(&self, path: &str, body: &str) -> Answer {
        Answer::of(self.post(path), body).await
    }

    /// The same in the background.
    pub fn asking(&self, path: &str, body: &str) -> actix_rt::task::JoinHandle<Answer> {
        let (request, body) = (self.post(path), body.to_owned());
        actix_rt::spawn(async move { Answer::of(request, &body).await })
    }
}

/// Posts a body by hand, in the background, and takes all that comes until the connection ends, as it is on the wire.
pub fn posting(addr: SocketAddr, path: &str, body: &str) -> actix_rt::task::JoinHandle<String> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let request = head + body;
    actix_rt::spawn(async move {
        let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        soon(socket.read_to_end(&mut seen)).await.unwrap();
        String::from_utf8(seen).unwrap()
    })
}

fn client() -> awc::Client {
    awc::Client::builder().connector(awc::Connector::new().limit(0)).finish()
}

/// A response, read to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Answer {
    pub async fn of(request: awc::ClientRequest, body: &str) -> Self {
        let mut response = soon(request.force_close().send_body(body.to_owned())).await.expect("a response");
        let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.headers().get("server").unwrap(), "outpost-coordinator");
        let body = soon(response.body().limit(64 << 20)).await.expect("a body");
        Self {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }
}

/// What an agent sees.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Frame(FromCoordinator),
    Pong,
    Close(Option<(u16, String)>),
    Eof,
}

/// An agent's end of a connection. It answers nothing by itself.
pub struct Agent {
    pub socket: Framed<BoxedSocket, Codec>,
    pub key: SigningKey,
}

impl Agent {
    /// Dials, and takes the challenge's nonce.
    pub async fn dial(coordinator: &Coordinator, path: &str, key: SigningKey) -> (Self, Vec<u8>) {
        let (_, socket) =
            soon(client().ws(coordinator.url(path)).max_frame_size(64 << 20).connect()).await.expect("an upgrade");
        let mut agent = Self { socket, key };
        let FromCoordinator::AuthChallenge { nonce, .. } = agent.frame().await else { panic!("no challenge") };
        (agent, STANDARD.decode(nonce).unwrap())
    }

    /// Dials and answers the challenge with a good signature.
    pub async fn answer(coordinator: &Coordinator, key: SigningKey, code: Option<&str>) -> Self {
        let (mut agent, nonce) = Self::dial(coordinator, "/agent", key).await;
        let response = agent.response(&nonce, code);
        agent.send(&FromAgent::AuthResponse(response)).await;
        agent
    }

    /// An agent that is on the roster and offers models.
    pub async fn join(coordinator: &Coordinator, number: u8, models: &[&str], slots: u32) -> Self {
        let mut agent = Self::answer(coordinator, key(number), None).await;
        let FromCoordinator::AuthOk { .. } = agent.frame().await else { panic!("not admitted") };
        agent.offer(models, slots).await;
        agent
    }

    /// The same with binary chunks agreed.
    pub async fn join_binary(coordinator: &Coordinator, number: u8, models: &[&str], slots: u32) -> Self {
        let mut agent = Self::agree(coordinator, number, &[Extension::Binary]).await;
        agent.offer(models, slots).await;
        agent
    }

    /// An agent that agreed on paths and whatever else there is, and offers `m` at these.
    pub async fn join_at(coordinator: &Coordinator, number: u8, endpoints: &[Endpoint]) -> Self {
        let mut agent = Self::agree(coordinator, number, &Extension::ALL).await;
        agent.offer_at(&["m"], 4, Some(endpoints.iter().copied().collect())).await;
        agent
    }

    /// An agent that is on the roster, with this agreed on, and has not offered anything.
    pub async fn agree(coordinator: &Coordinator, number: u8, extensions: &[Extension]) -> Self {
        let (mut agent, nonce) = Self::dial(coordinator, "/agent", key(number)).await;
        let response =
            AuthResponse { extensions: extensions.iter().copied().collect(), ..agent.response(&nonce, None) };
        agent.send(&FromAgent::AuthResponse(response)).await;
        let FromCoordinator::AuthOk { .. } = agent.frame().await else { panic!("not admitted") };
        agent
    }

    pub fn response(&self, nonce: &[u8], code: Option<&str>) -> AuthResponse {
        AuthResponse {
            pubkey: STANDARD.encode(self.key.verifying_key().as_bytes()),
            signature: STANDARD.encode(self.key.sign(nonce).to_bytes()),
            agent_version: "0.0.1".into(),
            enrollment_code: code.map(Into::into),
            extensions: Extensions::NONE,
        }
    }

    /// Offers models and waits until the coordinator has read it.
    pub async fn offer(&mut self, models: &[&str], slots: u32) {
        self.offer_at(models, slots, None).await;
    }

    /// The same at these paths.
    pub async fn offer_at(&mut self, models: &[&str], slots: u32, endpoints: Option<Endpoints>) {
        let model = |id: &&str| ModelOffer {
            model_id: ModelId::from(*id),
            input_per_1m: 1,
            output_per_1m: 1,
            max_concurrent: slots,
            backend: "ollama".into(),
            context_window: Some(4096),
            endpoints,
        };
        self.send(&FromAgent::Capabilities(Capabilities {
            models: models.iter().map(model).collect(),
            limits: Limits { max_concurrent_total: slots, max_tokens_per_minute: None },
            metadata: Metadata { agent_version: "0.0.1".into() },
        }))
        .await;
        self.settle().await;
    }

    /// Returns when all that was sent has been read: frames are handled in order, and a ping is answered in turn.
    pub async fn settle(&mut self) {
        self.socket.send(Message::Ping(Bytes::new())).await.unwrap();
        assert_eq!(self.see().await, Seen::Pong);
    }

    pub async fn send(&mut self, frame: &FromAgent) {
        self.text(serde_json::to_string(frame).unwrap()).await;
    }

    pub async fn text(&mut self, text: String) {
        soon(self.socket.send(Message::Text(text.into()))).await.unwrap();
    }

    pub async fn chunk(&mut self, job_id: JobId, data: &str) {
        self.send(&FromAgent::JobChunk(JobChunk::new(job_id, STANDARD.encode(data)))).await;
    }

    /// The first chunk of a job, with the head of its response.
    pub async fn begin(&mut self, job_id: JobId, status: u16, content_type: &str, data: &str) {
        let chunk = JobChunk::new(job_id, STANDARD.encode(data));
        let (status, content_type) = (Some(status), Some(content_type.into()));
        self.send(&FromAgent::JobChunk(JobChunk { status, content_type, ..chunk })).await;
    }

    pub async fn binary(&mut self, bytes: Vec<u8>) {
        soon(self.socket.send(Message::Binary(bytes.into()))).await.unwrap();
    }

    pub async fn binary_chunk(&mut self, job_id: JobId, offset: u64, data: &str) {
        self.binary([&BinaryChunk::head(job_id.uuid(), offset)[..], data.as_bytes()].concat()).await;
    }

    pub async fn done(&mut self, job_id: JobId) {
        self.send(&FromAgent::JobDone(JobDone { job_id, tokens: Tokens::new(1, 2), duration_ms: 3 })).await;
    }

    pub async fn fail(&mut self, job_id: JobId, error_code: ErrorCode) {
        let error = JobError { job_id, error_code, message: "because".into(), tokens_emitted: 0 };
        self.send(&FromAgent::JobError(error)).await;
    }

    /// The next thing that is no ping.
    pub async fn see(&mut self) -> Seen {
        loop {
            return match soon(self.socket.next()).await {
                None => Seen::Eof,
                Some(Err(error)) => panic!("not WebSocket: {error}"),
                Some(Ok(Frame::Text(text))) => Seen::Frame(FromCoordinator::parse(&text).unwrap()),
                Some(Ok(Frame::Pong(_))) => Seen::Pong,
                Some(Ok(Frame::Ping(_))) => continue,
                Some(Ok(Frame::Close(reason))) => {
                    Seen::Close(reason.map(|reason| (reason.code.into(), reason.description.unwrap_or_default())))
                }
                Some(Ok(other)) => panic!("unexpected {other:?}"),
            };
        }
    }

    pub async fn frame(&mut self) -> FromCoordinator {
        match self.see().await {
            Seen::Frame(frame) => frame,
            other => panic!("no frame: {other:?}"),
        }
    }

    pub async fn job(&mut self) -> JobFrame {
        match self.frame().await {
            FromCoordinator::Job(job) => job,
            other => panic!("no job: {other:?}"),
        }
    }
}
