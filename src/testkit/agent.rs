//! The scripted agent: connects to a coordinator over a real socket and does what the test scripts.
//!
//! For tests of coordinators. It sends nothing by itself, not even a pong.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use tokio::time::Instant;

use crate::conformance::{End, Fragment, Peer};
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::{JobId, ModelId, SessionName};
use crate::messages::wire::{
    AuthOk, AuthResponse, BinaryChunk, Capabilities, ErrorCode, Extension, Extensions, FromAgent, FromCoordinator,
    JobChunk, JobDone, JobError, JobFrame, KeptJob, Limits, Metadata, ModelOffer, ResumeRequest, Taken, Tokens,
};
use crate::transport::dial::WebSocketConnector;
use crate::transport::tls::client_config;
use crate::transport::websocket::codec::{Frame, Role};
use crate::transport::websocket::link::Connector;

/// How long the coordinator may take for each step.
const STEP: Duration = Duration::from_secs(30);

/// The key of the agent with this number.
pub fn agent_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// What an agent receives. Pings are not reported, and acknowledgements only by [`ScriptedAgent::ack`].
#[derive(Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// A message.
    Frame(FromCoordinator),
    /// The answer to a ping.
    Pong,
    /// A close frame, with its code and reason where it has them.
    Close(Option<(u16, String)>),
    /// The end of the stream.
    Eof,
}

/// An agent on one connection. Every wait panics at its deadline.
pub struct ScriptedAgent {
    peer: Peer,
    /// The key that it proves.
    pub key: SigningKey,
    /// The session of its connection, if `resume` was agreed on.
    pub session: Option<SessionName>,
    /// With `resume`: the bytes sent of each job.
    sent: HashMap<JobId, u64>,
    acks: VecDeque<(JobId, Taken)>,
}

impl ScriptedAgent {
    /// Opens a connection to the coordinator at this `ws` or `wss` URL.
    pub async fn open(url: &str, key: SigningKey) -> Self {
        // An error means that there is a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Ok(url) = url.parse() else { panic!("not a URL: {url}") };
        let tls = client_config(None).unwrap_or_else(|error| panic!("no TLS: {error}"));
        let dialled = WebSocketConnector::new(url, tls, None).dial().await;
        let upgraded = dialled.unwrap_or_else(|error| panic!("no connection to the coordinator: {error}"));
        let peer = Peer::new(Role::Client, upgraded);
        Self { peer, key, session: None, sent: HashMap::new(), acks: VecDeque::new() }
    }

    /// Opens a connection and reads the challenge. Returns the nonce too.
    pub async fn dial(url: &str, key: SigningKey) -> (Self, Vec<u8>) {
        let mut agent = Self::open(url, key).await;
        let FromCoordinator::AuthChallenge { nonce, .. } = agent.frame().await else { panic!("not a challenge") };
        let nonce = STANDARD.decode(nonce).unwrap_or_else(|error| panic!("a malformed nonce: {error}"));
        (agent, nonce)
    }

    /// Opens a connection and answers the challenge with a right signature.
    pub async fn answer(url: &str, key: SigningKey, code: Option<&str>) -> Self {
        let (mut agent, nonce) = Self::dial(url, key).await;
        let response = agent.response(&nonce, code);
        agent.send(&FromAgent::AuthResponse(response)).await;
        agent
    }

    /// The agent with this number, authenticated, with these models on offer.
    pub async fn join(url: &str, number: u8, models: &[&str], slots: u32) -> Self {
        let mut agent = Self::agree(url, number, &[]).await;
        agent.offer(models, slots).await;
        agent
    }

    /// The same with binary chunks agreed.
    pub async fn join_binary(url: &str, number: u8, models: &[&str], slots: u32) -> Self {
        let mut agent = Self::agree(url, number, &[Extension::Binary]).await;
        agent.offer(models, slots).await;
        agent
    }

    /// The same with all extensions agreed, and with the model `m` at these paths on offer.
    pub async fn join_at(url: &str, number: u8, endpoints: &[Endpoint]) -> Self {
        let mut agent = Self::agree(url, number, &Extension::ALL).await;
        agent.offer_at(&["m"], 4, Some(endpoints.iter().copied().collect())).await;
        agent
    }

    /// The agent with this number, authenticated, with these extensions agreed and nothing on offer yet.
    pub async fn agree(url: &str, number: u8, extensions: &[Extension]) -> Self {
        Self::authenticate(url, number, extensions, None).await.0
    }

    /// The same on a new connection, with a session to go on with. Returns what the coordinator grants, too.
    pub async fn resume(
        url: &str,
        number: u8,
        extensions: &[Extension],
        session: SessionName,
        jobs: &[KeptJob],
    ) -> (Self, AuthOk) {
        let request = ResumeRequest { session, jobs: jobs.to_vec() };
        Self::authenticate(url, number, extensions, Some(request)).await
    }

    async fn authenticate(
        url: &str,
        number: u8,
        extensions: &[Extension],
        resume: Option<ResumeRequest>,
    ) -> (Self, AuthOk) {
        let (mut agent, nonce) = Self::dial(url, agent_key(number)).await;
        let extensions = extensions.iter().copied().collect();
        let response = AuthResponse { extensions, resume, ..agent.response(&nonce, None) };
        agent.send(&FromAgent::AuthResponse(response)).await;
        let FromCoordinator::AuthOk(ok) = agent.frame().await else { panic!("the agent was refused") };
        agent.session.clone_from(&ok.session);
        for job in ok.jobs.iter().flatten() {
            agent.sent.insert(job.job_id, job.offset);
        }
        (agent, ok)
    }

    /// The response to a challenge, with a right signature.
    pub fn response(&self, nonce: &[u8], code: Option<&str>) -> AuthResponse {
        AuthResponse {
            pubkey: STANDARD.encode(self.key.verifying_key().as_bytes()),
            signature: STANDARD.encode(self.key.sign(nonce).to_bytes()),
            agent_version: "0.0.1".into(),
            enrollment_code: code.map(Into::into),
            extensions: Extensions::NONE,
            resume: None,
        }
    }

    /// Offers models and waits until the coordinator has read the offer.
    pub async fn offer(&mut self, models: &[&str], slots: u32) {
        self.offer_at(models, slots, None).await;
    }

    /// The same at these paths.
    pub async fn offer_at(&mut self, models: &[&str], slots: u32, endpoints: Option<Endpoints>) {
        self.send_offer(models, slots, endpoints).await;
        self.settle().await;
    }

    /// Offers models, and does not wait: a job can come at once.
    pub async fn send_offer(&mut self, models: &[&str], slots: u32, endpoints: Option<Endpoints>) {
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
    }

    /// Waits until the coordinator has read all that was sent: it reads frames in order, and a ping gets a pong.
    pub async fn settle(&mut self) {
        self.send_frame(&Frame::Ping(Bytes::new())).await;
        assert_eq!(self.event().await, AgentEvent::Pong);
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &FromAgent) {
        match serde_json::to_string(message) {
            Ok(text) => self.text(text).await,
            Err(error) => panic!("the message can't be written: {error}"),
        }
    }

    /// Sends any text.
    pub async fn text(&mut self, text: String) {
        self.send_frame(&Frame::Text(text.into())).await;
    }

    /// Sends any bytes as a binary frame.
    pub async fn binary(&mut self, bytes: Vec<u8>) {
        self.send_frame(&Frame::Binary(bytes.into())).await;
    }

    /// Sends a close frame.
    pub async fn close(&mut self, code: Option<u16>) {
        self.send_frame(&Frame::Close { code, reason: String::new() }).await;
    }

    /// Sends any frame.
    pub async fn send_frame(&mut self, frame: &Frame) {
        assert_sent(self.try_send_frame(frame).await);
    }

    /// Sends any frame to a coordinator that may be gone.
    ///
    /// # Errors
    /// If the connection does not take it.
    pub async fn try_send_frame(&mut self, frame: &Frame) -> Result<(), End> {
        self.peer.send(frame, Instant::now() + STEP).await
    }

    /// Sends a frame as a fragment of a message.
    pub async fn send_fragment(&mut self, frame: &Frame, place: Fragment) {
        assert_sent(self.peer.send_fragment(frame, place, Instant::now() + STEP).await);
    }

    /// Sends bytes as they are, frames or not.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        assert_sent(self.peer.send_raw(bytes, Instant::now() + STEP).await);
    }

    /// Sends a chunk of a job. With `resume` it has the offset behind the chunks that this method and [`Self::begin`] sent.
    pub async fn chunk(&mut self, job_id: JobId, data: &str) {
        let chunk = self.next_chunk(job_id, data);
        self.send(&FromAgent::JobChunk(chunk)).await;
    }

    /// Sends a chunk of a job at this offset.
    pub async fn chunk_at(&mut self, job_id: JobId, offset: u64, data: &str) {
        let chunk = JobChunk { offset: Some(offset), ..JobChunk::new(job_id, STANDARD.encode(data)) };
        self.send(&FromAgent::JobChunk(chunk)).await;
    }

    fn next_chunk(&mut self, job_id: JobId, data: &str) -> JobChunk {
        let sent = self.sent.entry(job_id).or_default();
        let offset = self.session.as_ref().map(|_| *sent);
        *sent += data.len() as u64;
        JobChunk { offset, ..JobChunk::new(job_id, STANDARD.encode(data)) }
    }

    /// Sends the first chunk of a job, with the head of its response.
    pub async fn begin(&mut self, job_id: JobId, status: u16, content_type: &str, data: &str) {
        let chunk = self.next_chunk(job_id, data);
        let (status, content_type) = (Some(status), Some(content_type.into()));
        self.send(&FromAgent::JobChunk(JobChunk { status, content_type, ..chunk })).await;
    }

    /// Sends a chunk of a job as a binary frame.
    pub async fn binary_chunk(&mut self, job_id: JobId, offset: u64, data: &str) {
        self.binary([&BinaryChunk::head(job_id.uuid(), offset)[..], data.as_bytes()].concat()).await;
    }

    /// Ends a job well.
    pub async fn done(&mut self, job_id: JobId) {
        self.send(&FromAgent::JobDone(JobDone { job_id, tokens: Tokens::new(1, 2), duration_ms: 3 })).await;
    }

    /// Ends a job with an error.
    pub async fn fail(&mut self, job_id: JobId, error_code: ErrorCode) {
        let error = JobError { job_id, error_code, message: "because".into(), tokens_emitted: 0 };
        self.send(&FromAgent::JobError(error)).await;
    }

    /// The next event. Acknowledgements before it are kept for [`Self::ack`].
    pub async fn event(&mut self) -> AgentEvent {
        loop {
            match self.next_event().await {
                AgentEvent::Frame(FromCoordinator::Ack { job_id, taken }) => self.acks.push_back((job_id, taken)),
                event => return event,
            }
        }
    }

    /// The next acknowledgement. Other events must not be before it.
    pub async fn ack(&mut self) -> (JobId, Taken) {
        if let Some(ack) = self.acks.pop_front() {
            return ack;
        }
        match self.next_event().await {
            AgentEvent::Frame(FromCoordinator::Ack { job_id, taken }) => (job_id, taken),
            other => panic!("not an acknowledgement: {other:?}"),
        }
    }

    /// The acknowledgements that were received and not returned yet.
    pub fn received_acks(&mut self) -> Vec<(JobId, Taken)> {
        self.acks.drain(..).collect()
    }

    async fn next_event(&mut self) -> AgentEvent {
        let deadline = Instant::now() + STEP;
        loop {
            return match self.peer.next(deadline).await {
                Ok(Frame::Ping(_)) => continue,
                Ok(Frame::Pong(_)) => AgentEvent::Pong,
                Ok(Frame::Close { code, reason }) => AgentEvent::Close(code.map(|code| (code, reason))),
                Ok(Frame::Text(text)) => match FromCoordinator::parse(&text) {
                    Ok(message) => AgentEvent::Frame(message),
                    Err(error) => panic!("a malformed message from the coordinator: {error}"),
                },
                Ok(Frame::Binary(_)) => panic!("a binary frame from the coordinator"),
                Err(End::Eof | End::Broken(_)) => AgentEvent::Eof,
                Err(end) => panic!("waited for an event at the agent, got {end}"),
            };
        }
    }

    /// The code and reason of the coordinator's close frame, which must be next. Answers it, so that the coordinator does
    /// not wait for an answer, and waits for the end of the stream.
    pub async fn closed(&mut self) -> Option<(u16, String)> {
        let AgentEvent::Close(close) = self.event().await else { panic!("not a close frame") };
        let code = close.as_ref().map(|(code, _)| *code);
        // The coordinator may have ended the stream with its close frame.
        let _ = self.try_send_frame(&Frame::Close { code, reason: String::new() }).await;
        assert_eq!(self.event().await, AgentEvent::Eof);
        close
    }

    /// The next event, which must be a message.
    pub async fn frame(&mut self) -> FromCoordinator {
        match self.event().await {
            AgentEvent::Frame(frame) => frame,
            other => panic!("not a message: {other:?}"),
        }
    }

    /// The next event, which must be a job.
    pub async fn job(&mut self) -> JobFrame {
        match self.frame().await {
            FromCoordinator::Job(job) => job,
            other => panic!("not a job: {other:?}"),
        }
    }
}

fn assert_sent(sent: Result<(), End>) {
    if let Err(end) = sent {
        panic!("the coordinator does not take a frame: {end}");
    }
}
