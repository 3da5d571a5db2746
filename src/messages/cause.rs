//! Why a job was not done: one closed set of words for the log, the metrics and the tests.

/// Why a job was refused, failed or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The job has a readable id, and an error in another field.
    Malformed,
    /// It was received before the first capabilities were sent.
    NotOffered,
    /// The model is not on offer.
    ModelNotServed,
    /// No backend of the model serves the API path.
    EndpointNotServed,
    /// The model's backends have no workers yet.
    BackendsNotReady,
    /// Every backend that could take it has failed it.
    BackendsFailed,
    /// The circuit breakers of the model's backends are open.
    BreakersOpen,
    /// All slots of the model's backends are used.
    BackendsFull,
    /// The agent holds as many jobs as it may.
    AgentFull,
    /// It arrived on a connection that a newer one has replaced.
    OldConnection,
    /// The token budget of the minute is spent.
    BudgetSpent,
    /// The agent is stopping.
    Stopping,
    /// The operator has paused the agent.
    Paused,
    /// The deadline passed.
    Deadline,
    /// The coordinator cancelled it.
    Cancelled,
    /// The connection to the coordinator ended.
    ConnectionLost,
    /// The coordinator wants bytes of its response that the agent does not have.
    NotKept,
    /// The actors that worked it have ended.
    WorkerLost,
    /// Another fault or limit of the agent.
    AgentError,
    /// The request can't be served as it is.
    InvalidRequest,
    /// The backend accepts no connection.
    Unreachable,
    /// The backend does not speak HTTP.
    NotHttp,
    /// The connection to the backend broke.
    ConnectionBroke,
    /// The backend refuses the API key, or there is none.
    KeyRejected,
    /// The backend does not have the model.
    ModelNotLoaded,
    /// The backend accepts no more requests with the operator's key.
    RateLimited,
    /// Another error of the backend.
    BackendError,
}

impl Cause {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotOffered => "not_offered",
            Self::ModelNotServed => "model_not_served",
            Self::EndpointNotServed => "endpoint_not_served",
            Self::BackendsNotReady => "backends_not_ready",
            Self::BackendsFailed => "backends_failed",
            Self::BreakersOpen => "breakers_open",
            Self::BackendsFull => "backends_full",
            Self::AgentFull => "agent_full",
            Self::OldConnection => "old_connection",
            Self::BudgetSpent => "budget_spent",
            Self::Stopping => "stopping",
            Self::Paused => "paused",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::ConnectionLost => "connection_lost",
            Self::NotKept => "not_kept",
            Self::WorkerLost => "worker_lost",
            Self::AgentError => "agent_error",
            Self::InvalidRequest => "invalid_request",
            Self::Unreachable => "unreachable",
            Self::NotHttp => "not_http",
            Self::ConnectionBroke => "connection_broke",
            Self::KeyRejected => "key_rejected",
            Self::ModelNotLoaded => "model_not_loaded",
            Self::RateLimited => "rate_limited",
            Self::BackendError => "backend_error",
        }
    }
}
