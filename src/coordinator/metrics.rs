//! The metrics of a coordinator. Every label has a closed set of values: no model, agent or client makes a new series.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::api::error_kind::ApiErrorKind;
use super::fleet::job_result::{JobOutcome, JobResult};
use super::fleet::retry::Failure;
use super::fleet::session_change::SessionChange;
use super::fleet::wait_outcome::WaitOutcome;
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;
use crate::telemetry::prometheus::{Histogram, Page, SECONDS};

/// A histogram of durations.
type Seconds = Histogram<{ SECONDS.len() }>;

/// What a coordinator has counted since its start. Its events change it.
#[derive(Default)]
pub(crate) struct Metrics {
    jobs: HashMap<JobResult, u64>,
    refused: HashMap<ApiErrorKind, u64>,
    sessions: HashMap<SessionChange, u64>,
    retries: HashMap<JobResult, u64>,
    waits: HashMap<WaitOutcome, u64>,
    waited: BTreeMap<WaitOutcome, Seconds>,
    input_tokens: u64,
    output_tokens: u64,
    first_byte: BTreeMap<Endpoint, Seconds>,
    total: BTreeMap<(Endpoint, JobOutcome), Seconds>,
}

/// The values that are read at the moment of a request for the metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    /// Agents on the roster.
    pub(crate) agents: usize,
    /// Those of them that are draining.
    pub(crate) draining: usize,
    /// Jobs that have a slot.
    pub(crate) in_flight: usize,
    /// Jobs that wait for agents without a connection.
    pub(crate) parked: usize,
    /// Requests that wait for a slot.
    pub(crate) waiting: usize,
}

impl Metrics {
    /// Counts a job that has ended. The durations are those to the first bytes of the response and to its end.
    pub(crate) fn count_job(
        &mut self,
        result: JobResult,
        endpoint: Endpoint,
        tokens: Tokens,
        first_byte: Option<Duration>,
        total: Duration,
    ) {
        *self.jobs.entry(result).or_default() += 1;
        self.input_tokens = self.input_tokens.saturating_add(tokens.input);
        self.output_tokens = self.output_tokens.saturating_add(tokens.output);
        if let Some(first_byte) = first_byte {
            let histogram = self.first_byte.entry(endpoint).or_insert_with(|| Seconds::new(&SECONDS));
            histogram.observe(first_byte.as_secs_f64());
        }
        let histogram = self.total.entry((endpoint, result.outcome())).or_insert_with(|| Seconds::new(&SECONDS));
        histogram.observe(total.as_secs_f64());
    }

    /// Counts a request that was refused before a job was made of it.
    pub(crate) fn count_refusal(&mut self, cause: ApiErrorKind) {
        *self.refused.entry(cause).or_default() += 1;
    }

    /// Counts what happened to a session that outlives a connection.
    pub(crate) fn count_session(&mut self, change: SessionChange) {
        *self.sessions.entry(change).or_default() += 1;
    }

    /// Counts a request that is sent to another agent after a job that ended like this.
    pub(crate) fn count_retry(&mut self, cause: JobResult) {
        *self.retries.entry(cause).or_default() += 1;
    }

    /// Counts a request that has waited for a slot, or that the full queue did not accept.
    pub(crate) fn count_wait(&mut self, outcome: WaitOutcome, waited: Duration) {
        *self.waits.entry(outcome).or_default() += 1;
        if outcome != WaitOutcome::QueueFull {
            let histogram = self.waited.entry(outcome).or_insert_with(|| Seconds::new(&SECONDS));
            histogram.observe(waited.as_secs_f64());
        }
    }

    /// The page for Prometheus.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut page = Page::default();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let name = "outpost_coordinator_build_info";
        page.head(name, "Always 1; the label has the version.", "gauge");
        page.sample(name, &version, 1);
        let name = "outpost_coordinator_agents";
        page.head(name, "Agents that are connected and admitted.", "gauge");
        page.sample(name, &[], gauges.agents);
        let name = "outpost_coordinator_agents_draining";
        page.head(name, "Agents that announced that they will stop, and get no new job.", "gauge");
        page.sample(name, &[], gauges.draining);
        let name = "outpost_coordinator_jobs_in_flight";
        page.head(name, "Jobs that have a slot of an agent.", "gauge");
        page.sample(name, &[], gauges.in_flight);
        let name = "outpost_coordinator_jobs_waiting";
        page.head(name, "Jobs that wait for an agent whose connection was lost.", "gauge");
        page.sample(name, &[], gauges.parked);
        let name = "outpost_coordinator_sessions_total";
        page.head(name, "Sessions that began to wait for their agent, and how the waits ended.", "counter");
        for change in SessionChange::ALL {
            let count = self.sessions.get(&change).copied().unwrap_or_default();
            page.sample(name, &[("change", change.as_str())], count);
        }
        let name = "outpost_coordinator_requests_waiting";
        page.head(name, "Requests that wait for a slot of an agent.", "gauge");
        page.sample(name, &[], gauges.waiting);
        let name = "outpost_coordinator_jobs_total";
        page.head(name, "Jobs that ended, by outcome and cause.", "counter");
        for result in JobResult::all() {
            let labels = [("outcome", result.outcome().as_str()), ("cause", result.cause())];
            page.sample(name, &labels, self.jobs.get(&result).copied().unwrap_or_default());
        }
        let name = "outpost_coordinator_requests_refused_total";
        page.head(name, "Requests refused before a job was made of them, by cause.", "counter");
        for kind in ApiErrorKind::ALL {
            page.sample(name, &[("cause", kind.code())], self.refused.get(&kind).copied().unwrap_or_default());
        }
        let name = "outpost_coordinator_retries_total";
        page.head(
            name,
            "Requests sent to another agent, by the cause of the failure with the agent before.",
            "counter",
        );
        for result in Failure::retried_results() {
            page.sample(name, &[("cause", result.cause())], self.retries.get(&result).copied().unwrap_or_default());
        }
        let name = "outpost_coordinator_waits_total";
        page.head(
            name,
            "Requests that waited for a slot or that the full queue did not accept, by outcome.",
            "counter",
        );
        for outcome in WaitOutcome::ALL {
            let count = self.waits.get(&outcome).copied().unwrap_or_default();
            page.sample(name, &[("outcome", outcome.as_str())], count);
        }
        let name = "outpost_coordinator_wait_seconds";
        page.head(name, "Time that requests waited for a slot, by outcome.", "histogram");
        for (outcome, histogram) in &self.waited {
            page.histogram(name, &[("outcome", outcome.as_str())], histogram);
        }
        let name = "outpost_coordinator_tokens_total";
        page.head(name, "Tokens of jobs done, as agents reported them.", "counter");
        page.sample(name, &[("kind", "input")], self.input_tokens);
        page.sample(name, &[("kind", "output")], self.output_tokens);
        let name = "outpost_coordinator_job_first_byte_seconds";
        let help = "Time from the booking of a slot to the first bytes of the response.";
        page.head(name, help, "histogram");
        for (endpoint, histogram) in &self.first_byte {
            page.histogram(name, &[("endpoint", endpoint.path())], histogram);
        }
        let name = "outpost_coordinator_job_duration_seconds";
        let help = "Time from the booking of a slot to the end of the response to the client.";
        page.head(name, help, "histogram");
        for ((endpoint, outcome), histogram) in &self.total {
            page.histogram(name, &[("endpoint", endpoint.path()), ("outcome", outcome.as_str())], histogram);
        }
        page.finish()
    }
}
