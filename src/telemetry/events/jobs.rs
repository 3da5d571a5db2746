//! Events of jobs. A job has one line at its end; its other lines are for debugging.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::Level;

use super::describe::{Describe, EventKind};
use crate::core::scheduling::router::Refusal;
use crate::messages::cause::Cause;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{BackendId, CoordinatorId, JobId, ModelId};
use crate::messages::jobs::{Blame, Outcome};
use crate::messages::prices::Price;
use crate::messages::wire::ErrorCode;
use crate::telemetry::Snapshot;
use crate::telemetry::field::Fields;
use crate::telemetry::job_metrics::EndedJob;
use crate::telemetry::problems::Occurrence;

const TARGET: &str = "outpost::jobs";

/// A job was accepted: it will have one end.
#[derive(Clone, Debug)]
pub struct JobAccepted {
    /// The job.
    pub job: JobId,
    /// Its model.
    pub model: ModelId,
}

impl Describe for JobAccepted {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Debug, TARGET, "job accepted")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("job", self.job).text("model", self.model.as_str())
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.jobs.admitted += 1;
    }
}

/// A job has a slot.
#[derive(Clone, Debug)]
pub struct JobStarted {
    /// The job.
    pub job: JobId,
    /// The backend that works it.
    pub backend: BackendId,
}

impl Describe for JobStarted {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Debug, TARGET, "job started")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("job", self.job).text("backend", &self.backend)
    }
}

/// A job was not accepted, and answered with an error.
#[derive(Clone, Debug)]
pub struct JobRefused {
    /// The job.
    pub job: JobId,
    /// Why.
    pub refusal: Refusal,
}

impl Describe for JobRefused {
    fn kind(&self) -> EventKind {
        let level = if self.refusal.code() == ErrorCode::OutOfCapacity { Level::Debug } else { Level::Info };
        EventKind::new(level, TARGET, "job refused").limited().of_variant(self.refusal.cause().as_str())
    }

    fn fields(&self) -> Fields {
        let refusal = self.refusal;
        Fields::new().text("job", self.job).text("code", refusal.code()).text("cause", refusal.cause().as_str())
    }

    fn problem(&self) -> Option<Occurrence> {
        let blame = match self.refusal.code() {
            ErrorCode::ModelNotLoaded | ErrorCode::Internal => Blame::Caller,
            _ => Blame::Operator,
        };
        Some(Occurrence::of_job("refused", self.refusal.cause(), blame))
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        count(&mut snapshot.jobs.refused, self.refusal.code());
    }
}

/// A backend failed a job before the first byte of its answer was sent, and another backend has it now.
#[derive(Clone, Debug)]
pub struct JobMoved {
    /// The job.
    pub job: JobId,
    /// The backend that failed it.
    pub from: BackendId,
    /// The next one.
    pub to: BackendId,
}

impl Describe for JobMoved {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "job moved")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("job", self.job).text("from", &self.from).text("to", &self.to)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.jobs.moved += 1;
    }
}

/// An accepted job ended.
#[derive(Clone, Debug)]
pub struct JobEnded {
    /// The job.
    pub job: JobId,
    /// Whose job it was.
    pub coordinator: CoordinatorId,
    /// Its model.
    pub model: ModelId,
    /// The requested API path.
    pub endpoint: Endpoint,
    /// Where it had its slot, if it had one.
    pub backend: Option<BackendId>,
    /// What the model was offered for as the job came.
    pub price: Option<Price>,
    /// How.
    pub outcome: Outcome,
    /// Why it was not done.
    pub cause: Option<Cause>,
    /// From its receipt to the first byte of its answer.
    pub first_byte: Option<Duration>,
    /// From its receipt to its end.
    pub total: Duration,
}

impl JobEnded {
    /// The word for the outcome in logs and metrics.
    pub(crate) fn outcome_word(&self) -> &'static str {
        match self.outcome {
            Outcome::Done { .. } => "done",
            Outcome::Failed(_) => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }

    /// The word for the cause in logs and metrics.
    pub(in crate::telemetry) fn cause_word(&self) -> &'static str {
        self.cause.map_or("none", Cause::as_str)
    }
}

impl Describe for JobEnded {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "job ended")
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::new()
            .text("job", self.job)
            .text("model", self.model.as_str())
            .text_if("backend", self.backend.as_ref())
            .text("outcome", self.outcome_word())
            .text_if("cause", self.cause.map(Cause::as_str));
        match &self.outcome {
            Outcome::Done { tokens } => {
                fields = fields.number("input_tokens", tokens.input).number("output_tokens", tokens.output);
            }
            Outcome::Failed(failure) => {
                fields = fields.text("code", failure.code).text("blame", failure.blame.as_str());
            }
            Outcome::Cancelled => {}
        }
        if let Some(first_byte) = self.first_byte {
            fields = fields.number("first_byte_ms", first_byte.as_millis());
        }
        fields.number("total_ms", self.total.as_millis())
    }

    fn problem(&self) -> Option<Occurrence> {
        let cause = self.cause.filter(|cause| *cause != Cause::Cancelled)?;
        let (verb, blame) = match &self.outcome {
            Outcome::Done { .. } => return None,
            Outcome::Failed(failure) => ("failed", failure.blame),
            Outcome::Cancelled => ("lost", Blame::Agent),
        };
        Some(Occurrence::of_job(verb, cause, blame))
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        match &self.outcome {
            Outcome::Done { tokens } => {
                snapshot.jobs.done += 1;
                snapshot.tokens.input = snapshot.tokens.input.saturating_add(tokens.input);
                snapshot.tokens.output = snapshot.tokens.output.saturating_add(tokens.output);
            }
            Outcome::Failed(failure) => count(&mut snapshot.jobs.failed, failure.code),
            Outcome::Cancelled => snapshot.jobs.cancelled += 1,
        }
        let output = match &self.outcome {
            Outcome::Done { tokens } => tokens.output,
            Outcome::Failed(_) | Outcome::Cancelled => 0,
        };
        Arc::make_mut(&mut snapshot.job_metrics).observe(&EndedJob {
            model: self.model.as_str(),
            backend: self.backend.as_ref().map(BackendId::as_str),
            outcome: self.outcome_word(),
            cause: self.cause_word(),
            first_byte: self.first_byte,
            total: self.total,
            output,
        });
    }
}

fn count(by_code: &mut BTreeMap<String, u64>, code: ErrorCode) {
    *by_code.entry(code.as_str().to_owned()).or_default() += 1;
}
