//! The snapshot as Prometheus text. Names and labels are a closed set; a backend's name is the operator's own.

use super::exposition::{Exposition, MetricType};
use super::{Phase, Snapshot};

/// Renders a snapshot in the text exposition format 0.0.4.
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = Page(Exposition::default());
    page.gauge(
        "outpost_up",
        "1 while the connection to the coordinator stands.",
        u64::from(snapshot.phase == Phase::Connected),
    );
    page.gauge("outpost_jobs_in_flight", "Jobs that have a slot now.", snapshot.in_flight);
    page.gauge("outpost_models_offered", "Models the coordinator was told of.", snapshot.models_offered as u64);
    page.gauge("outpost_connect_failures", "Failed tries to connect, in a row.", u64::from(snapshot.failures));
    page.counter("outpost_connections_total", "Connections established.", &[(None, snapshot.connections)]);
    page.counter("outpost_jobs_admitted_total", "Jobs given a slot.", &[(None, snapshot.jobs.admitted)]);
    page.counter("outpost_jobs_done_total", "Jobs ended well.", &[(None, snapshot.jobs.done)]);
    page.counter(
        "outpost_jobs_cancelled_total",
        "Jobs cancelled or lost with their connection.",
        &[(None, snapshot.jobs.cancelled)],
    );
    page.counter(
        "outpost_jobs_moved_total",
        "Moves of jobs to another backend, because one had failed them.",
        &[(None, snapshot.jobs.moved)],
    );
    let by_code = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(code, count)| (Some(("code", code.clone())), *count)).collect::<Vec<_>>()
    };
    page.counter("outpost_jobs_failed_total", "Jobs ended with an error, by code.", &by_code(&snapshot.jobs.failed));
    page.counter(
        "outpost_jobs_refused_total",
        "Jobs answered with an error instead of a slot, by code.",
        &by_code(&snapshot.jobs.refused),
    );
    let tokens = [("input", snapshot.tokens.input), ("output", snapshot.tokens.output)];
    let tokens: Vec<_> = tokens.map(|(kind, count)| (Some(("kind", kind.to_owned())), count)).into();
    page.counter("outpost_tokens_total", "Tokens of jobs done, as backends reported them.", &tokens);
    page.counter("outpost_frames_skipped_total", "Frames that could not be used.", &[(None, snapshot.frames_skipped)]);
    page.counter(
        "outpost_stale_dropped_total",
        "Messages of earlier connections dropped.",
        &[(None, snapshot.stale_dropped)],
    );
    page.counter(
        "outpost_actors_replaced_total",
        "Actors that ended and were replaced.",
        &[(None, snapshot.actors_replaced)],
    );
    page.head("outpost_backend_up", "Whether a backend is healthy.", MetricType::Gauge);
    for (name, state) in &snapshot.backends {
        page.sample("outpost_backend_up", Some(("backend", name.clone())), u64::from(state.up));
    }
    page.head(
        "outpost_backend_breaker_opened_total",
        "How often a backend got no jobs for a while.",
        MetricType::Counter,
    );
    for (name, state) in &snapshot.backends {
        let label = Some(("backend", name.clone()));
        page.sample("outpost_backend_breaker_opened_total", label, state.breaker_opened);
    }
    page.0.into_text()
}

struct Page(Exposition);

type Label = Option<(&'static str, String)>;

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, MetricType::Gauge);
        self.sample(name, None, value);
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[(Label, u64)]) {
        self.head(name, help, MetricType::Counter);
        for (label, value) in samples {
            self.sample(name, label.clone(), *value);
        }
    }

    fn head(&mut self, name: &str, help: &str, metric_type: MetricType) {
        self.0.metric(name, help, metric_type);
    }

    fn sample(&mut self, name: &str, label: Label, value: u64) {
        match &label {
            None => self.0.sample(name, &[], value),
            Some((key, text)) => self.0.sample(name, &[(key, text)], value),
        }
    }
}
