//! When a request that failed with one agent may be sent to another one. Pure: [`dispatch`](super::dispatch) records the
//! failures, and the [`roster`](super::roster) and the [queue](super::wait_queue) ask which agents are left.
//!
//! A failure is retried if the client can't notice it: no byte of a response was sent to the client, the request is not to
//! blame, and the deadline has not passed. The rule is the same for all causes.

use super::job_result::JobResult;
use crate::coordinator::agents::handshake::AgentKey;
use crate::messages::wire::ErrorCode;

/// How often a request is sent to an agent, the first time included. A request may be what breaks the agents, so it does not
/// go to all of them.
const MOST_TRIES: usize = 3;

/// How a try failed, before the client got a byte of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The result of the job.
    pub(crate) result: JobResult,
    /// Whether the status of the backend's response blames the request.
    pub(crate) blames_request: bool,
    /// Whether the same agent may get the request again: it never received it, or has been restarted since.
    pub(crate) spares_agent: bool,
}

impl Failure {
    /// A failure for which the agent is to blame, if the result allows it.
    pub(crate) fn of(result: JobResult) -> Self {
        Self { result, blames_request: false, spares_agent: false }
    }

    /// The results that are retried, in logs and metrics.
    pub(crate) fn retried_results() -> impl Iterator<Item = JobResult> {
        JobResult::all().filter(|result| Self::of(*result).is_agents())
    }

    /// Whether it is the fault of the agent or of what is behind it, so that another agent may succeed.
    fn is_agents(self) -> bool {
        match self.result {
            JobResult::NotSent | JobResult::AgentLost | JobResult::UnreadableResponse => true,
            JobResult::Agent(code) => match code {
                ErrorCode::OutOfCapacity
                | ErrorCode::ModelNotLoaded
                | ErrorCode::BackendUnreachable
                | ErrorCode::AuthRejectedByBackend => true,
                ErrorCode::Internal => !self.blames_request,
                // The deadline is that of the job, with any agent.
                ErrorCode::BackendTimeout => false,
            },
            JobResult::Done | JobResult::ClientGone | JobResult::SlowClient | JobResult::Deadline => false,
        }
    }
}

/// The failed tries of one request: which agent had it, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries(Vec<FailedTry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FailedTry {
    agent: AgentKey,
    result: JobResult,
    /// Whether the agent may get the request again.
    spares_agent: bool,
}

impl Tries {
    /// Records a failed try. `true` if the request may be tried again. `in_time`: the deadline has not passed.
    pub(crate) fn record(&mut self, agent: AgentKey, failure: Failure, in_time: bool) -> bool {
        let Failure { result, spares_agent, .. } = failure;
        // An agent that was full did not start the job.
        let spares_agent = spares_agent || result == JobResult::Agent(ErrorCode::OutOfCapacity);
        self.0.push(FailedTry { agent, result, spares_agent });
        in_time && failure.is_agents() && self.0.len() < MOST_TRIES
    }

    /// Those of a request that these agents have lost.
    #[cfg(test)]
    pub(crate) fn lost_by(agents: impl IntoIterator<Item = AgentKey>) -> Self {
        let mut tries = Self::default();
        for agent in agents {
            tries.record(agent, Failure::of(JobResult::AgentLost), true);
        }
        tries
    }

    /// The result of the last failed try. `None` if none has failed.
    pub(crate) fn last(&self) -> Option<JobResult> {
        self.0.last().map(|failed| failed.result)
    }

    /// Whether the request may not go to this agent, because it had the request and failed.
    pub(crate) fn rule_out(&self, agent: AgentKey) -> bool {
        self.0.iter().any(|failed| failed.agent == agent && !failed.spares_agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: JobResult = JobResult::Agent(ErrorCode::OutOfCapacity);

    fn agent(number: u8) -> AgentKey {
        AgentKey([number; 32])
    }

    #[test]
    fn what_an_agent_is_to_blame_for_is_retried() {
        let retried: Vec<_> = Failure::retried_results().map(JobResult::cause).collect();
        assert_eq!(
            retried,
            [
                "not_sent",
                "agent_lost",
                "unreadable_answer",
                "out_of_capacity",
                "model_not_loaded",
                "backend_unreachable",
                "auth_rejected_by_backend",
                "internal",
            ]
        );
    }

    #[test]
    fn a_response_that_blames_the_request_makes_only_an_unnamed_error_the_requests_fault() {
        for result in JobResult::all() {
            let blamed = Failure { result, blames_request: true, spares_agent: false }.is_agents();
            let retried = Failure::of(result).is_agents() && result != JobResult::Agent(ErrorCode::Internal);
            assert_eq!(blamed, retried, "{}", result.cause());
        }
    }

    #[test]
    fn a_request_is_sent_three_times_whatever_the_causes_are() {
        for result in Failure::retried_results() {
            let mut tries = Tries::default();
            let again: Vec<_> = (1..=3).map(|number| tries.record(agent(number), Failure::of(result), true)).collect();
            assert_eq!(again, [true, true, false], "{}", result.cause());
        }
        let mut tries = Tries::default();
        assert!(tries.record(agent(1), Failure::of(FULL), true));
        assert!(tries.record(agent(2), Failure::of(JobResult::AgentLost), true));
        assert!(!tries.record(agent(1), Failure::of(FULL), true));
    }

    #[test]
    fn after_the_deadline_nothing_is_retried() {
        assert!(!Tries::default().record(agent(1), Failure::of(JobResult::AgentLost), false));
    }

    #[test]
    fn an_agent_gets_a_request_once_unless_it_was_full() {
        let mut tries = Tries::default();
        assert_eq!(tries.last(), None);
        tries.record(agent(1), Failure::of(FULL), true);
        tries.record(agent(2), Failure::of(JobResult::AgentLost), true);
        assert_eq!(tries.last(), Some(JobResult::AgentLost));
        assert_eq!([1, 2, 3].map(|number| tries.rule_out(agent(number))), [false, true, false]);
        // It had a slot the second time, and failed.
        tries.record(agent(1), Failure::of(JobResult::Agent(ErrorCode::Internal)), true);
        assert!(tries.rule_out(agent(1)));
    }

    #[test]
    fn an_agent_that_is_not_to_blame_may_get_the_request_again_and_the_try_counts() {
        let mut tries = Tries::default();
        let spared = Failure { spares_agent: true, ..Failure::of(JobResult::AgentLost) };
        let again = [(); 3].map(|()| tries.record(agent(1), spared, true));
        assert_eq!((again, tries.rule_out(agent(1))), ([true, true, false], false));
    }
}
