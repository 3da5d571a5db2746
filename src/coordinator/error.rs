//! Why a coordinator does not start: settings that would admit anyone by mistake, or an address that is taken.

use std::io;
use std::net::SocketAddr;

use crate::config::CoordinatorConfig;
use crate::messages::secret::Secret;

/// The shortest enrollment code, in bytes. Guesses are limited by network only, so a code must be too long to be guessed
/// from many.
const SHORTEST_CODE: usize = 16;

/// Refuses settings that would admit anyone by mistake.
pub(super) fn check(config: &CoordinatorConfig) -> Result<(), CoordinatorError> {
    let empty = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| secret.reveal().is_empty());
    if empty(&config.api_key) {
        return Err(CoordinatorError::EmptyApiKey);
    }
    if empty(&config.enrollment_code) {
        return Err(CoordinatorError::EmptyEnrollmentCode);
    }
    if !config.listen.ip().is_loopback() && config.api_key.is_none() {
        return Err(CoordinatorError::NeedsApiKey { listen: config.listen });
    }
    if config.enrollment_code.as_ref().is_some_and(|code| code.reveal().len() < SHORTEST_CODE) {
        return Err(CoordinatorError::ShortEnrollmentCode);
    }
    let admits_anyone = config.enrollment_code.is_none() && config.agent_keys.is_empty();
    if !config.listen.ip().is_loopback() && admits_anyone {
        return Err(CoordinatorError::NeedsAgents { listen: config.listen });
    }
    Ok(())
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
    #[error("OUTPOST_COORDINATOR_API_KEY is empty: give it a value or leave it out")]
    EmptyApiKey,
    /// An empty code protects nothing.
    #[error("OUTPOST_COORDINATOR_ENROLLMENT_CODE is empty: give it a value or leave it out")]
    EmptyEnrollmentCode,
    /// A code that can be guessed.
    #[error(
        "OUTPOST_COORDINATOR_ENROLLMENT_CODE is too short: use at least {SHORTEST_CODE} bytes, for example from `openssl rand -hex 16`"
    )]
    ShortEnrollmentCode,
    /// The address can't be bound.
    #[error("can't listen on {listen}: {source}")]
    Bind {
        /// The configured address.
        listen: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}
