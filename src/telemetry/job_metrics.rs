//! Histograms of ended jobs, by labels whose values are bounded. Part of the snapshot; shown at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::prometheus::{Histogram, Page, SECONDS};

/// The most models that have a label of their own.
const MODELS: usize = 64;
/// The label of all further models.
const OTHER: &str = "other";
/// The label of jobs that never had a slot.
const NO_BACKEND: &str = "none";

/// Upper bounds in tokens a second.
const RATES: [f64; 11] = [1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0];

/// What is counted of a job that has ended.
pub(super) struct EndedJob<'a> {
    pub(super) model: &'a str,
    /// Where it had its slot.
    pub(super) backend: Option<&'a str>,
    pub(super) outcome: &'static str,
    pub(super) cause: &'static str,
    pub(super) first_byte: Option<Duration>,
    pub(super) total: Duration,
    /// Output tokens of a job that is done.
    pub(super) output: u64,
}

/// The labels of a histogram. A backend's name is the operator's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    model: String,
    backend: String,
    outcome: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    first_byte: Histogram<14>,
    duration: Histogram<14>,
    tokens_per_second: Histogram<11>,
}

impl Series {
    fn new() -> Self {
        let seconds = Histogram::new(&SECONDS);
        Self { first_byte: seconds.clone(), duration: seconds, tokens_per_second: Histogram::new(&RATES) }
    }
}

/// Histograms of ended jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobMetrics {
    /// The models that have a label of their own.
    models: BTreeSet<String>,
    series: BTreeMap<Labels, Series>,
}

impl JobMetrics {
    /// Counts an ended job.
    pub(super) fn observe(&mut self, ended: &EndedJob<'_>) {
        let labels = Labels {
            model: self.model_label(ended.model),
            backend: ended.backend.unwrap_or(NO_BACKEND).to_owned(),
            outcome: ended.outcome,
            cause: ended.cause,
        };
        let series = self.series.entry(labels).or_insert_with(Series::new);
        let total = ended.total.as_secs_f64();
        series.duration.observe(total);
        if let Some(first_byte) = ended.first_byte {
            series.first_byte.observe(first_byte.as_secs_f64());
        }
        if ended.output > 0 && total > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "a histogram needs no more than 52 bits")]
            series.tokens_per_second.observe(ended.output as f64 / total);
        }
    }

    fn model_label(&mut self, model: &str) -> String {
        if self.models.contains(model) {
            return model.to_owned();
        }
        if self.models.len() >= MODELS {
            return OTHER.to_owned();
        }
        self.models.insert(model.to_owned());
        model.to_owned()
    }

    /// Appends the histograms to a page.
    pub fn render(&self, page: &mut Page) {
        let help = "Seconds from the receipt of a job to the first byte of its answer.";
        self.render_one(page, "outpost_job_first_byte_seconds", help, |series| &series.first_byte);
        let help = "Seconds from the receipt of a job to its end.";
        self.render_one(page, "outpost_job_duration_seconds", help, |series| &series.duration);
        let help = "Output tokens a second of jobs done, over their whole duration.";
        self.render_one(page, "outpost_job_tokens_per_second", help, |series| &series.tokens_per_second);
    }

    fn render_one<const N: usize>(
        &self,
        page: &mut Page,
        name: &str,
        help: &str,
        histogram: impl Fn(&Series) -> &Histogram<N>,
    ) {
        page.head(name, help, "histogram");
        for (labels, series) in &self.series {
            let Labels { model, backend, outcome, cause } = labels;
            let labels = [("model", &**model), ("backend", &**backend), ("outcome", *outcome), ("cause", *cause)];
            page.histogram(name, &labels, histogram(series));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(model: &str) -> EndedJob<'_> {
        EndedJob {
            model,
            backend: Some("big"),
            outcome: "done",
            cause: "none",
            output: 100,
            first_byte: Some(Duration::from_millis(200)),
            total: Duration::from_secs(2),
        }
    }

    fn page(metrics: &JobMetrics) -> String {
        let mut page = Page::default();
        metrics.render(&mut page);
        page.finish()
    }

    #[test]
    fn a_job_is_counted_once_in_each_histogram() {
        let mut metrics = JobMetrics::default();
        metrics.observe(&done("m"));
        let page = page(&metrics);
        let labels = r#"model="m",backend="big",outcome="done",cause="none""#;
        for line in [
            format!("outpost_job_first_byte_seconds_sum{{{labels}}} 0.2"),
            format!("outpost_job_duration_seconds_sum{{{labels}}} 2"),
            format!("outpost_job_tokens_per_second_sum{{{labels}}} 50"),
            format!("outpost_job_tokens_per_second_bucket{{{labels},le=\"80\"}} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "no {line}:\n{page}");
        }
    }

    #[test]
    fn models_beyond_the_bound_share_a_label() {
        let mut metrics = JobMetrics::default();
        for number in 0..MODELS + 10 {
            metrics.observe(&done(&format!("m{number}")));
        }
        assert_eq!(metrics.series.len(), MODELS + 1);
        let other = metrics.series.iter().find(|(labels, _)| labels.model == OTHER).unwrap();
        let mut page = Page::default();
        page.histogram("h", &[], &other.1.duration);
        assert!(page.finish().ends_with("h_count 10\n"));
    }
}
