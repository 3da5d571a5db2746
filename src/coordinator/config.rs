//! The settings of a coordinator, and why it does not start. Where the values come from is up to the caller.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::messages::secret::Secret;
use crate::messages::wire::Extensions;

/// The shortest enrollment code, in bytes. Guesses are limited by network only, so a code must be too long to be guessed
/// from many.
const SHORTEST_CODE: usize = 16;

/// Settings of a coordinator. [`CoordinatorConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// The key that clients of the API must send. Required to listen beyond loopback.
    pub api_key: Option<Secret>,
    /// The code that an agent that is not in `agent_keys` must send the first time.
    pub enrollment_code: Option<Secret>,
    /// Public keys of agents that are admitted without a code. If there are some and there is no code, only they are admitted.
    pub agent_keys: Vec<[u8; 32]>,
    /// Threads that serve connections, at least 1.
    pub workers: usize,
    /// Connections at once, at least 1, of clients and agents together. More wait until one ends.
    pub max_connections: usize,
    /// Connections at once of agents that have not proved their key. More are refused.
    pub max_unproved: usize,
    /// How long a job may take.
    pub job_deadline: Duration,
    /// How much longer an agent may take to report that the deadline passed, before its job is cancelled.
    pub deadline_margin: Duration,
    /// The largest `job` message, in bytes, and so the largest request body. An agent closes its connection when a message
    /// is over its own limit, 64 MiB unless its operator sets another.
    pub max_job_message: usize,
    /// Bytes of all request bodies held at once. A body is held from its first byte until its answer begins. Buffers and
    /// the messages made from the bodies need a few times as much.
    pub max_request_memory: usize,
    /// The largest message of an agent, in bytes.
    pub max_agent_message: usize,
    /// Bytes of an answer that may wait for a slow client. A job that goes beyond is cancelled.
    pub max_buffered: usize,
    /// The extensions that are offered to agents.
    pub extensions: Extensions,
    /// How long an agent may take from its connection to its `auth_response`.
    pub handshake_timeout: Duration,
    /// How often agents are pinged.
    pub ping_interval: Duration,
    /// An agent that sent no byte for this time is dead.
    pub agent_silence: Duration,
    /// How long a stop waits for running jobs.
    pub stop_grace: Duration,
}

impl CoordinatorConfig {
    /// The defaults: no keys and no code, which is allowed on loopback only.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            api_key: None,
            enrollment_code: None,
            agent_keys: Vec::new(),
            workers: 2,
            max_connections: 16_384,
            max_unproved: 256,
            job_deadline: Duration::from_secs(600),
            deadline_margin: Duration::from_secs(5),
            max_job_message: 48 << 20,
            max_request_memory: 256 << 20,
            max_agent_message: 16 << 20,
            max_buffered: 8 << 20,
            extensions: Extensions::all(),
            handshake_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(20),
            agent_silence: Duration::from_secs(60),
            stop_grace: Duration::from_secs(5),
        }
    }

    /// Refuses settings that would admit anyone by mistake.
    pub(crate) fn validate(&self) -> Result<(), CoordinatorError> {
        let empty = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| secret.reveal().is_empty());
        if empty(&self.api_key) {
            return Err(CoordinatorError::EmptyApiKey);
        }
        if empty(&self.enrollment_code) {
            return Err(CoordinatorError::EmptyEnrollmentCode);
        }
        if !self.listen.ip().is_loopback() && self.api_key.is_none() {
            return Err(CoordinatorError::NeedsApiKey { listen: self.listen });
        }
        if self.enrollment_code.as_ref().is_some_and(|code| code.reveal().len() < SHORTEST_CODE) {
            return Err(CoordinatorError::ShortEnrollmentCode);
        }
        let admits_anyone = self.enrollment_code.is_none() && self.agent_keys.is_empty();
        if !self.listen.ip().is_loopback() && admits_anyone {
            return Err(CoordinatorError::NeedsAgents { listen: self.listen });
        }
        Ok(())
    }
}

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// Beyond loopback anyone could use the agents.
    #[error(
        "refusing to listen on {listen}, which is not loopback, without an API key: \
         set OUTPOST_COORDINATOR_API_KEY, or listen on 127.0.0.1"
    )]
    NeedsApiKey {
        /// The configured address.
        listen: SocketAddr,
    },
    /// Beyond loopback anyone could connect an agent, and would receive prompts.
    #[error(
        "refusing to listen on {listen}, which is not loopback, while any agent is admitted: \
         set OUTPOST_COORDINATOR_ENROLLMENT_CODE or OUTPOST_COORDINATOR_AGENT_KEYS, or listen on 127.0.0.1"
    )]
    NeedsAgents {
        /// The configured address.
        listen: SocketAddr,
    },
    /// An empty key protects nothing.
    #[error("the API key is empty: give it a value or leave it out")]
    EmptyApiKey,
    /// An empty code protects nothing.
    #[error("the enrollment code is empty: give it a value or leave it out")]
    EmptyEnrollmentCode,
    /// A code that can be guessed.
    #[error("the enrollment code is too short: it must have at least {SHORTEST_CODE} characters")]
    ShortEnrollmentCode,
    /// The address can't be bound.
    #[error("can't listen on {listen}")]
    Bind {
        /// The configured address.
        listen: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}
