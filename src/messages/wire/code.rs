//! The error codes of jobs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The closed set of a job's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No slot for it, the token budget is spent, or the agent is draining.
    OutOfCapacity,
    /// No healthy backend serves the model.
    ModelNotLoaded,
    /// The backend refuses or drops the connection before the response starts.
    BackendUnreachable,
    /// The job's deadline passed.
    BackendTimeout,
    /// The backend answered 401 or 403, or its API key is missing.
    AuthRejectedByBackend,
    /// Anything else.
    #[serde(other)]
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 6] = [
        Self::OutOfCapacity,
        Self::ModelNotLoaded,
        Self::BackendUnreachable,
        Self::BackendTimeout,
        Self::AuthRejectedByBackend,
        Self::Internal,
    ];

    /// The code as the wire spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutOfCapacity => "out_of_capacity",
            Self::ModelNotLoaded => "model_not_loaded",
            Self::BackendUnreachable => "backend_unreachable",
            Self::BackendTimeout => "backend_timeout",
            Self::AuthRejectedByBackend => "auth_rejected_by_backend",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
