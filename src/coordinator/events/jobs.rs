//! Events of jobs and requests. A job has one line, at its end.

use std::time::{Duration, SystemTime};

use log::Level;

use super::TARGET;
use crate::coordinator::api::error_kind::ApiErrorKind;
use crate::coordinator::fleet::job_result::{JobOutcome, JobResult};
use crate::coordinator::fleet::wait_outcome::WaitOutcome;
use crate::coordinator::metrics::Metrics;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{JobId, ModelId, ProviderId};
use crate::messages::wire::Tokens;
use crate::telemetry::Fields;
use crate::telemetry::events::{Describe, EventKind};

/// A job ended. It is one attempt with one agent: a request that is sent to another agent again is another job.
#[derive(Clone, Debug)]
pub(crate) struct JobAttemptEnded {
    /// The job.
    pub(crate) job: JobId,
    /// Its model.
    pub(crate) model: ModelId,
    /// The agent that had it.
    pub(crate) provider: ProviderId,
    /// Its path.
    pub(crate) endpoint: Endpoint,
    /// Tokens as the agent reported them, 0 where it did not.
    pub(crate) tokens: Tokens,
    /// From the booking of the slot to the first bytes of the response, if there were any.
    pub(crate) first_byte: Option<Duration>,
    /// From the booking of the slot to the end of the response to the client.
    pub(crate) total: Duration,
    /// How it ended.
    pub(crate) result: JobResult,
}

impl Describe<Metrics> for JobAttemptEnded {
    fn kind(&self) -> EventKind {
        let level = match self.result {
            JobResult::Done | JobResult::ClientGone | JobResult::Agent(_) | JobResult::NotSent => Level::Info,
            JobResult::AgentLost | JobResult::SlowClient | JobResult::Deadline | JobResult::UnreadableResponse => {
                Level::Warn
            }
        };
        EventKind::new(level, TARGET, "job ended")
    }

    fn fields(&self) -> Fields {
        let outcome = self.result.outcome();
        let mut fields = Fields::new()
            .text("job", self.job)
            .text("model", self.model.as_str())
            .text("provider_id", &self.provider)
            .text("endpoint", self.endpoint.path())
            .text("outcome", outcome.as_str());
        fields = match outcome {
            JobOutcome::Done => {
                fields.number("input_tokens", self.tokens.input).number("output_tokens", self.tokens.output)
            }
            JobOutcome::Failed | JobOutcome::Cancelled => fields.text("cause", self.result.cause()),
        };
        if let Some(first_byte) = self.first_byte {
            fields = fields.number("first_byte_ms", first_byte.as_millis());
        }
        fields.number("total_ms", self.total.as_millis())
    }

    fn apply(&self, metrics: &mut Metrics, _: SystemTime) {
        metrics.count_job(self.result, self.endpoint, self.tokens, self.first_byte, self.total);
    }
}

/// A request was refused before a job was made of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestRefused {
    /// Why.
    pub(crate) cause: ApiErrorKind,
}

impl Describe<Metrics> for RequestRefused {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Debug, TARGET, "request refused").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().text("cause", self.cause.code())
    }

    fn apply(&self, metrics: &mut Metrics, _: SystemTime) {
        metrics.count_refusal(self.cause);
    }
}

/// A request that failed with one agent is sent to another one.
#[derive(Clone, Debug)]
pub(crate) struct RequestRetried {
    /// The job that it is now.
    pub(crate) job: JobId,
    /// Its model.
    pub(crate) model: ModelId,
    /// The agent that has it now.
    pub(crate) provider: ProviderId,
    /// How the job before it ended.
    pub(crate) cause: JobResult,
}

impl Describe<Metrics> for RequestRetried {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "request retried").limited().of_variant(self.cause.cause())
    }

    fn fields(&self) -> Fields {
        Fields::new()
            .text("job", self.job)
            .text("model", self.model.as_str())
            .text("provider_id", &self.provider)
            .text("cause", self.cause.cause())
    }

    fn apply(&self, metrics: &mut Metrics, _: SystemTime) {
        metrics.count_retry(self.cause);
    }
}

/// The wait of a request for a slot ended, or the queue was full.
#[derive(Clone, Debug)]
pub(crate) struct WaitEnded {
    /// Its model.
    pub(crate) model: ModelId,
    /// Its path.
    pub(crate) endpoint: Endpoint,
    /// How.
    pub(crate) outcome: WaitOutcome,
    /// How long it waited.
    pub(crate) waited: Duration,
}

impl Describe<Metrics> for WaitEnded {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Debug, TARGET, "wait for a slot ended").limited().of_variant(self.outcome.as_str())
    }

    fn fields(&self) -> Fields {
        Fields::new()
            .text("model", self.model.as_str())
            .text("endpoint", self.endpoint.path())
            .text("outcome", self.outcome.as_str())
            .number("waited_ms", self.waited.as_millis())
    }

    fn apply(&self, metrics: &mut Metrics, _: SystemTime) {
        metrics.count_wait(self.outcome, self.waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::wire::ErrorCode;
    use crate::telemetry::field::Field;

    fn ended(result: JobResult) -> JobAttemptEnded {
        JobAttemptEnded {
            job: JobId::random(),
            model: "m".into(),
            provider: "agent-1".parse().unwrap(),
            endpoint: Endpoint::ChatCompletions,
            tokens: Tokens { input: 3, output: 5, ..Tokens::default() },
            first_byte: Some(Duration::from_millis(20)),
            total: Duration::from_millis(70),
            result,
        }
    }

    #[test]
    fn the_end_of_a_job_has_its_names_tokens_and_times_as_typed_fields() {
        let event = ended(JobResult::Done);
        let fields = event.fields();
        assert_eq!(fields.get("job"), Some(&Field::Text(event.job.to_string())));
        for (name, text) in
            [("model", "m"), ("provider_id", "agent-1"), ("endpoint", "/v1/chat/completions"), ("outcome", "done")]
        {
            assert_eq!(fields.get(name), Some(&Field::Text(text.into())), "{name}");
        }
        for (name, number) in [("input_tokens", 3), ("output_tokens", 5), ("first_byte_ms", 20), ("total_ms", 70)] {
            assert_eq!(fields.get(name), Some(&Field::Number(number)), "{name}");
        }
        assert_eq!(fields.get("cause"), None);
    }

    #[test]
    fn a_job_that_is_not_done_has_a_cause_instead_of_tokens() {
        let event = JobAttemptEnded { first_byte: None, ..ended(JobResult::Agent(ErrorCode::BackendTimeout)) };
        let fields = event.fields();
        let names: Vec<_> = fields.names().collect();
        assert_eq!(names, ["job", "model", "provider_id", "endpoint", "outcome", "cause", "total_ms"]);
        assert_eq!(fields.get("cause"), Some(&Field::Text("backend_timeout".into())));
    }

    #[test]
    fn every_end_of_a_job_is_logged() {
        assert!(JobResult::all().all(|result| !ended(result).kind().is_limited));
    }
}
