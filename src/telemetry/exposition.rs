//! The text exposition format 0.0.4 of Prometheus. Used by the agent's and the coordinator's metrics.

use std::fmt::{self, Display, Write};
use std::time::Duration;

/// The content type of a page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricType {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
    /// Counts observations in buckets.
    Histogram,
}

impl MetricType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// The labels of a sample. Names are constants; values are escaped.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page of metrics.
#[derive(Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    /// Starts a metric. Its samples must follow.
    pub(crate) fn metric(&mut self, name: &str, help: &str, metric_type: MetricType) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {}", metric_type.as_str()));
    }

    /// Adds a sample.
    pub(crate) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.line(format_args!("{name}{} {value}", LabelSet { labels, le: None }));
    }

    /// Adds the samples of a histogram.
    pub(crate) fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut total = 0;
        for (bound, count) in BOUNDS.iter().zip(&histogram.counts) {
            total += count;
            let le = Some(bound.to_string());
            self.line(format_args!("{name}_bucket{} {total}", LabelSet { labels, le }));
        }
        let all = LabelSet { labels, le: Some("+Inf".into()) };
        self.line(format_args!("{name}_bucket{all} {}", histogram.count));
        self.sample(&format!("{name}_sum"), labels, histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, histogram.count);
    }

    /// The text of the page.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "{line}");
    }
}

struct LabelSet<'a> {
    labels: Labels<'a>,
    /// The upper bound of a bucket.
    le: Option<String>,
}

impl Display for LabelSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let le = self.le.iter().map(|le| ("le", le.as_str()));
        let mut separator = '{';
        for (name, value) in self.labels.iter().copied().chain(le) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{separator}{name}=\"{value}\"")?;
            separator = ',';
        }
        if separator == ',' { f.write_char('}') } else { Ok(()) }
    }
}

/// Upper bounds of the buckets of a histogram, in seconds.
const BOUNDS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Durations, counted in buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Observations by bucket, each counted once. Those above the last bound are only in `count`.
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    /// Adds an observation.
    pub(crate) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.counts.iter_mut().zip(BOUNDS).find(|(_, bound)| seconds <= *bound);
        if let Some((count, _)) = bucket {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_last_one_has_all_observations() {
        let mut histogram = Histogram::default();
        for seconds in [0.05, 0.2, 0.2, 1000.0] {
            histogram.observe(Duration::from_secs_f64(seconds));
        }
        let mut page = Exposition::default();
        page.histogram("h", &[("endpoint", "/v1/x")], &histogram);
        let text = page.into_text();
        for line in [
            "h_bucket{endpoint=\"/v1/x\",le=\"0.05\"} 1",
            "h_bucket{endpoint=\"/v1/x\",le=\"0.1\"} 1",
            "h_bucket{endpoint=\"/v1/x\",le=\"0.25\"} 3",
            "h_bucket{endpoint=\"/v1/x\",le=\"1\"} 3",
            "h_bucket{endpoint=\"/v1/x\",le=\"600\"} 3",
            "h_bucket{endpoint=\"/v1/x\",le=\"+Inf\"} 4",
            "h_sum{endpoint=\"/v1/x\"} 1000.45",
            "h_count{endpoint=\"/v1/x\"} 4",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Exposition::default();
        page.sample("m", &[("a", "\"\\\n"), ("b", "1")], 7);
        page.sample("m", &[], 1.5);
        assert_eq!(page.into_text(), "m{a=\"\\\"\\\\\\n\",b=\"1\"} 7\nm 1.5\n");
    }
}
