//! The fields of the handshake that the extension `resume` adds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::messages::ids::{JobId, SessionName};

/// What an agent asks for in `auth_response`: to go on with the jobs of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeRequest {
    /// The session that the coordinator named on an earlier connection.
    pub session: SessionName,
    /// Every job of the session that the agent still keeps. Not empty.
    pub jobs: Vec<KeptJob>,
}

/// A job that the agent keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptJob {
    /// The job.
    pub job_id: JobId,
    /// Response bytes produced so far.
    pub offset: u64,
    /// Whether its response has ended: its terminal frame is kept too.
    pub ended: bool,
}

/// A job that the coordinator still wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedJob {
    /// The job.
    pub job_id: JobId,
    /// Where the agent goes on in the response.
    pub offset: u64,
}

/// The fields of `auth_ok`, read leniently: a field that is missing, malformed or out of range is `None`. Whether they count,
/// and what must be there, is decided by the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthOk {
    /// The assigned id of the agent, as received; not validated yet.
    pub provider_id: Option<String>,
    /// The name of the session of this connection.
    pub session: Option<SessionName>,
    /// How long the coordinator keeps the session after the connection has ended: 1 s to 10 min.
    pub resume_window: Option<Duration>,
    /// Whether the session of the agent's [`ResumeRequest`] goes on.
    pub resumed: bool,
    /// Which of its jobs the coordinator wants.
    pub jobs: Option<Vec<WantedJob>>,
}
