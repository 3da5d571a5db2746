//! The coordinator's side of the protocol on one connection: handshake, jobs, cancels, and their outcomes.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};

use super::link::{CoordinatorLink, message};
use crate::core::json::Members;
use crate::core::session::auth2::statement;
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::{JobId, ModelId};
use crate::messages::wire::{
    AuthOk, AuthResponse, BinaryChunk, Capabilities, ErrorCode, FromAgent, FromCoordinator, Heartbeat, JobDone,
    JobError, JobFrame, JobTarget, ResponseHead,
};
use crate::transport::websocket::codec::Frame;

/// A model that no backend serves.
const NO_MODEL: &str = "no-such-model";

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// `job_done`.
    Done(JobDone),
    /// `job_error`.
    Error(JobError),
}

/// All frames of one job, put together.
#[derive(Clone, PartialEq, Eq)]
pub struct JobTrace {
    /// The head of the response, where the connection carries heads and a chunk came.
    pub head: Option<ResponseHead>,
    /// The response bytes, joined.
    pub bytes: Vec<u8>,
    /// How it ended.
    pub end: JobEnd,
}

impl fmt::Debug for JobTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobTrace({} bytes, {:?})", self.bytes.len(), self.end)
    }
}

impl JobTrace {
    /// The good end. Panics at a bad one.
    pub fn done(&self) -> &JobDone {
        match &self.end {
            JobEnd::Done(done) => done,
            JobEnd::Error(error) => panic!("the job failed: {error:?}"),
        }
    }

    /// The bad end. Panics at a good one.
    pub fn error(&self) -> &JobError {
        match &self.end {
            JobEnd::Done(_) => panic!("the job was done"),
            JobEnd::Error(error) => error,
        }
    }

    /// The code of the bad end.
    pub fn code(&self) -> ErrorCode {
        self.error().error_code
    }
}

/// What one frame reports about a job.
enum JobNews {
    Bytes(Option<ResponseHead>, Vec<u8>),
    End(JobEnd),
}

impl JobNews {
    fn of(job: JobId, frame: &Frame) -> Option<Self> {
        if let Frame::Binary(bytes) = frame {
            // A frame that is not a chunk was found when it was received.
            let chunk = BinaryChunk::parse(bytes).ok().filter(|chunk| chunk.job == job.uuid())?;
            return Some(Self::Bytes(None, chunk.bytes.to_vec()));
        }
        match message(frame)? {
            FromAgent::JobChunk(chunk) if chunk.job_id == job => match STANDARD.decode(&chunk.data) {
                Ok(bytes) => Some(Self::Bytes(ResponseHead::of(&chunk), bytes)),
                Err(error) => panic!("job_chunk is not base64: {error}"),
            },
            FromAgent::JobDone(done) if done.job_id == job => Some(Self::End(JobEnd::Done(done))),
            FromAgent::JobError(error) if error.job_id == job => Some(Self::End(JobEnd::Error(error))),
            _ => None,
        }
    }
}

/// A job to send, in OpenAI's format and with the default deadline. Its fields are there to be changed.
pub fn job_frame(model: &str, request: impl Into<Bytes>) -> JobFrame {
    JobFrame {
        members: Members::default(),
        job_id: JobId::random(),
        model_id: ModelId::from(model),
        request: request.into(),
        endpoint: Endpoint::ChatCompletions,
        deadline: Duration::from_secs(60),
        target: JobTarget::BASE,
    }
}

/// A job for this path with an answer of this form, as a coordinator sends it that has agreed on `endpoints`.
pub fn job_frame_at(endpoint: Endpoint, form: AnswerForm, model: &str, request: impl Into<Bytes>) -> JobFrame {
    JobFrame { target: JobTarget::new(endpoint, form), ..job_frame(model, request) }
}

/// The handshake.
impl CoordinatorLink {
    /// Sends a challenge with a fresh nonce of 32 bytes.
    pub fn challenge(&mut self) {
        self.challenge_with(&rand::random::<[u8; 32]>());
    }

    /// Sends a challenge with this nonce.
    pub fn challenge_with(&mut self, nonce: &[u8]) {
        self.nonce = nonce.to_vec();
        self.send(&FromCoordinator::AuthChallenge { nonce: STANDARD.encode(nonce), extensions: self.offer });
    }

    /// Waits for the answer to the challenge, which must be the next message, and verifies its signature: over the nonce, or with
    /// `auth2` over the statement that names this coordinator.
    pub async fn expect_auth(&mut self) -> AuthResponse {
        let FromAgent::AuthResponse(response) = self.next().await else {
            panic!("the agent sent another message than auth_response before auth_ok")
        };
        let decode = |text: &str| match STANDARD.decode(text) {
            Ok(bytes) => bytes,
            Err(error) => panic!("auth_response is not base64: {error}"),
        };
        let key = decode(&response.pubkey).try_into().ok().and_then(|key| VerifyingKey::from_bytes(&key).ok());
        let signature = Signature::from_slice(&decode(&response.signature)).ok();
        let (Some(key), Some(signature)) = (key, signature) else { panic!("no key or no signature in auth_response") };
        let signed = match &response.client_nonce {
            None => self.nonce.clone(),
            Some(client_nonce) => match decode(client_nonce).try_into() {
                Ok(client_nonce) => statement(&self.name, &self.nonce, &client_nonce),
                Err(_) => panic!("the client nonce of auth_response has not 32 bytes"),
            },
        };
        assert!(key.verify_strict(&signed, &signature).is_ok(), "the signature is not of this challenge");
        response
    }

    /// Lets the agent in, with a name for it if there is one.
    pub fn accept(&self, provider_id: Option<&str>) {
        self.send(&FromCoordinator::AuthOk(AuthOk {
            provider_id: provider_id.map(str::to_owned),
            ..AuthOk::default()
        }));
    }

    /// The whole handshake.
    pub async fn welcome(&mut self) -> AuthResponse {
        self.challenge();
        let response = self.expect_auth().await;
        self.accept(Some("agent-1"));
        response
    }
}

/// The steady state.
impl CoordinatorLink {
    /// The next capabilities.
    pub async fn capabilities(&mut self) -> Capabilities {
        self.take_message("capabilities", |message| match message {
            FromAgent::Capabilities(capabilities) => Some(capabilities),
            _ => None,
        })
        .await
    }

    /// The next capabilities, as the models on offer.
    pub async fn offered(&mut self) -> Vec<String> {
        let models = self.capabilities().await.models;
        models.iter().map(|model| model.model_id.to_string()).collect()
    }

    /// Waits until this model is on offer.
    pub async fn until_offered(&mut self, model: &str) {
        while !self.offered().await.iter().any(|offered| offered == model) {}
    }

    /// The next heartbeat.
    pub async fn heartbeat(&mut self) -> Heartbeat {
        self.take_message("a heartbeat", |message| match message {
            FromAgent::Heartbeat(heartbeat) => Some(heartbeat),
            _ => None,
        })
        .await
    }

    /// Waits until the agent announces that it drains. Returns how many jobs it reports.
    pub async fn draining(&mut self) -> u64 {
        self.take_message("the announcement of a drain", |message| match message {
            FromAgent::Drain(notice) => Some(notice.in_flight),
            _ => None,
        })
        .await
    }

    /// Sends a job in OpenAI's format with the default deadline.
    pub fn job(&self, model: &str, request: &str) -> JobId {
        self.send_job(&job_frame(model, request.to_owned()))
    }

    /// Sends a job.
    pub fn send_job(&self, job: &JobFrame) -> JobId {
        self.send(&FromCoordinator::Job(job.clone()));
        job.job_id
    }

    /// Sends a cancel.
    pub fn cancel(&self, job: JobId) {
        self.send(&FromCoordinator::JobCancel { job_id: job });
    }

    /// Sends a cancel and waits until the agent has acted on it. From then on a frame of the job fails the test.
    pub async fn cancel_and_silence(&mut self, job: JobId) {
        self.cancel(job);
        self.ping(b"after the cancel").await;
        self.silence(job);
    }

    /// From now on a frame of the job fails the test.
    pub fn silence(&mut self, job: JobId) {
        self.grammar.silence(job);
    }

    /// The next bytes of a job's response.
    pub async fn chunk_of(&mut self, job: JobId) -> Vec<u8> {
        self.take("a chunk of the job", |frame| match JobNews::of(job, frame) {
            Some(JobNews::Bytes(_, bytes)) => Some(bytes),
            _ => None,
        })
        .await
    }

    /// The rest of a job, to its end.
    pub async fn outcome_of(&mut self, job: JobId) -> JobTrace {
        let (mut head, mut bytes) = (None, Vec::new());
        loop {
            match self.take("the end of the job", |frame| JobNews::of(job, frame)).await {
                JobNews::Bytes(first, more) => {
                    head = head.or(first);
                    bytes.extend_from_slice(&more);
                }
                JobNews::End(end) => return JobTrace { head, bytes, end },
            }
        }
    }

    /// Waits until the agent has acted on everything that was sent before: a job for a model that no backend has goes the
    /// whole way and is refused.
    pub async fn fence(&mut self) {
        let job = self.job(NO_MODEL, "{}");
        self.outcome_of(job).await.error();
    }

    /// Sends a ping and waits for its pong.
    pub async fn ping(&mut self, payload: &'static [u8]) {
        self.send_frame(&Frame::Ping(Bytes::from_static(payload)));
        self.take("the pong", |frame| matches!(frame, Frame::Pong(answer) if answer == payload).then_some(())).await;
    }
}
