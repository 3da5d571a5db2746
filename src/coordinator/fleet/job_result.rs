//! The result of a job, in its log line and in the metrics.

use super::response_channel::ResponseEnd;
use crate::messages::wire::ErrorCode;

/// The outcome of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum JobOutcome {
    /// The client got the whole response.
    Done,
    /// The agent failed, or its connection ended.
    Failed,
    /// The coordinator cancelled the job.
    Cancelled,
}

impl JobOutcome {
    /// The word in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The outcome of a job with its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JobResult {
    /// Done.
    Done,
    /// Failed: the agent reported an error.
    Agent(ErrorCode),
    /// Failed: the job was not sent, because the agent did not read fast enough or its session ended.
    NotSent,
    /// Failed: the session of the agent ended.
    AgentLost,
    /// Cancelled: the client ended its connection.
    ClientGone,
    /// Cancelled: the client read too slowly.
    SlowClient,
    /// Cancelled: the deadline passed.
    Deadline,
    /// Cancelled: the coordinator could not read the response.
    UnreadableResponse,
}

impl JobResult {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Done,
            Self::NotSent,
            Self::AgentLost,
            Self::ClientGone,
            Self::SlowClient,
            Self::Deadline,
            Self::UnreadableResponse,
        ];
        others.into_iter().chain(ErrorCode::ALL.into_iter().map(Self::Agent))
    }

    /// The result of a job whose response ended like this.
    pub(crate) fn of(end: &ResponseEnd) -> Self {
        match end {
            ResponseEnd::Done(_) => Self::Done,
            ResponseEnd::Failed { code, .. } => Self::Agent(*code),
            ResponseEnd::SlowClient => Self::SlowClient,
            ResponseEnd::Unreadable => Self::UnreadableResponse,
            ResponseEnd::NotSent => Self::NotSent,
            ResponseEnd::AgentLost | ResponseEnd::AgentRestarted => Self::AgentLost,
            ResponseEnd::Deadline => Self::Deadline,
        }
    }

    /// The outcome alone.
    pub(crate) fn outcome(self) -> JobOutcome {
        match self {
            Self::Done => JobOutcome::Done,
            Self::Agent(_) | Self::NotSent | Self::AgentLost => JobOutcome::Failed,
            Self::ClientGone | Self::SlowClient | Self::Deadline | Self::UnreadableResponse => JobOutcome::Cancelled,
        }
    }

    /// The cause alone: the word in logs and metrics.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Done => "none",
            Self::Agent(code) => code.as_str(),
            Self::NotSent => "not_sent",
            Self::AgentLost => "agent_lost",
            Self::ClientGone => "client_gone",
            Self::SlowClient => "slow_client",
            Self::Deadline => "deadline",
            Self::UnreadableResponse => "unreadable_answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_pair_of_outcome_and_cause_is_a_result_of_its_own() {
        let pairs: Vec<_> = JobResult::all().map(|result| (result.outcome(), result.cause())).collect();
        assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), pairs.len());
        assert_eq!(pairs.len(), 7 + ErrorCode::ALL.len());
    }
}
