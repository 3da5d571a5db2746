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

use super::agent_event::AgentEvent;
use crate::conformance::{End, Fragment, Peer};
use crate::core::session::auth2::statement;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::{JobId, ModelId, SessionName};
use crate::messages::wire::{
    AuthOk, AuthResponse, BinaryChunk, Capabilities, DrainNotice, ErrorCode, Extension, Extensions, FromAgent,
    FromCoordinator, JobChunk, JobDone, JobError, JobFrame, KeptJob, Limits, Metadata, ModelOffer, ResumeRequest,
    Taken, Tokens,
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
    /// The coordinator's `host:port`, which its signatures name with `auth2`: that of the URL, until a test changes it.
    pub coordinator: String,
    /// What the challenge offered.
    pub offered: Extensions,
}

impl ScriptedAgent {
    /// Opens a connection to the coordinator at this `ws` or `wss` URL.
    pub async fn open(url: &str, key: SigningKey) -> Self {
        // An error means that there is a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Ok(url) = url.parse() else { panic!("not a URL: {url}") };
        let tls = client_config(None).unwrap_or_else(|error| panic!("no TLS: {error}"));
        let connector = WebSocketConnector::new(url, tls, None);
        let dialled = connector.dial().await;
        let upgraded = dialled.unwrap_or_else(|error| panic!("no connection to the coordinator: {error}"));
        let (peer, coordinator) = (Peer::new(Role::Client, upgraded), connector.target().to_owned());
        let (session, sent, acks) = (None, HashMap::new(), VecDeque::new());
        Self { peer, key, session, sent, acks, coordinator, offered: Extensions::NONE }
    }

    /// Opens a connection and reads the challenge. Returns the nonce too.
    pub async fn dial(url: &str, key: SigningKey) -> (Self, Vec<u8>) {
        let mut agent = Self::open(url, key).await;
        let FromCoordinator::AuthChallenge { nonce, extensions } = agent.frame().await else {
            panic!("not a challenge")
        };
        agent.offered = extensions;
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

    /// The same with all extensions agreed that can be, and with the model `m` at these paths on offer.
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
        let response = agent.response_with(&nonce, extensions.iter().copied().collect());
        let response = AuthResponse { resume, ..response };
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
            client_nonce: None,
        }
    }

    /// The response to a challenge that names these extensions, with a right signature. It names `auth2` only if that was
    /// offered.
    pub fn response_with(&self, nonce: &[u8], extensions: Extensions) -> AuthResponse {
        let response = AuthResponse { extensions, ..self.response(nonce, None) };
        if !extensions.contains(Extension::Auth2) {
            return response;
        }
        if !self.offered.contains(Extension::Auth2) {
            return AuthResponse { extensions: extensions.without(Extension::Auth2), ..response };
        }
        let client_nonce = rand::random();
        let signature = self.key.sign(&statement(&self.coordinator, nonce, &client_nonce));
        AuthResponse {
            signature: STANDARD.encode(signature.to_bytes()),
            client_nonce: Some(STANDARD.encode(client_nonce)),
            ..response
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
        self.announce(models, slots, endpoints, None).await;
    }

    /// The same at the paths of the base protocol, with the largest frame that the agent takes, in bytes.
    pub async fn offer_up_to(&mut self, models: &[&str], slots: u32, max_message_bytes: u64) {
        self.announce(models, slots, None, Some(max_message_bytes)).await;
        self.settle().await;
    }

    async fn announce(
        &mut self,
        models: &[&str],
        slots: u32,
        endpoints: Option<Endpoints>,
        max_message_bytes: Option<u64>,
    ) {
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
            limits: Limits { max_concurrent_total: slots, max_tokens_per_minute: None, max_message_bytes },
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

    /// Announces a drain.
    pub async fn drain(&mut self, in_flight: u64) {
        self.send(&FromAgent::Drain(DrainNotice { in_flight })).await;
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
