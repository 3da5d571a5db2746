//! Writes Prometheus text, and counts into histograms. Used by the status server and by the coordinator's metrics.

use std::fmt::{Display, Write};

/// The media type of the text exposition format 0.0.4.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of a histogram of durations, in seconds.
pub(crate) const SECONDS: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];

/// Labels of a sample: names and values.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page of metrics in the text exposition format 0.0.4. The samples of a metric follow its head.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A gauge with one sample.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.sample(name, &[], value);
    }

    /// A counter with one sample.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, &[], value);
    }

    /// The head of a metric: `kind` is `gauge`, `counter` or `histogram`.
    pub fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// A sample of a gauge or a counter.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let labels = labels_text(labels, None);
        self.line(format_args!("{name}{labels} {value}"));
    }

    /// The samples of one histogram.
    pub fn histogram<const N: usize>(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram<N>) {
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(histogram.counts) {
            below += count;
            let labels = labels_text(labels, Some(&bound.to_string()));
            self.line(format_args!("{name}_bucket{labels} {below}"));
        }
        let all = labels_text(labels, Some("+Inf"));
        let labels = labels_text(labels, None);
        let Histogram { count, sum, .. } = histogram;
        self.line(format_args!("{name}_bucket{all} {count}\n{name}_sum{labels} {sum}\n{name}_count{labels} {count}"));
    }

    /// The text of the page.
    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn labels_text(labels: Labels<'_>, bound: Option<&str>) -> String {
    let bound = bound.map(|bound| ("le", bound));
    let pairs: Vec<String> = labels
        .iter()
        .copied()
        .chain(bound)
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

/// Counts observed values by upper bounds, which ascend.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// Values up to each bound, and over the bound before it.
    counts: [u64; N],
    /// All values, also those over the last bound.
    count: u64,
    sum: f64,
}

impl<const N: usize> Histogram<N> {
    /// A histogram without values.
    pub fn new(bounds: &'static [f64; N]) -> Self {
        Self { bounds, counts: [0; N], count: 0, sum: 0.0 }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_each_bucket_whose_bound_is_not_below_it() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for value in [0.5, 0.75, 1.0, 4.0] {
            histogram.observe(value);
        }
        let mut page = Page::default();
        page.histogram("h", &[("model", "a")], &histogram);
        let expected = "h_bucket{model=\"a\",le=\"0.5\"} 1\nh_bucket{model=\"a\",le=\"1\"} 3\n\
                        h_bucket{model=\"a\",le=\"+Inf\"} 4\nh_sum{model=\"a\"} 6.25\nh_count{model=\"a\"} 4\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn a_label_can_not_end_its_quotes_or_its_line() {
        let mut page = Page::default();
        page.sample("x", &[("model", "a\"\\\nb"), ("code", "c")], 1);
        assert_eq!(page.finish(), "x{model=\"a\\\"\\\\\\nb\",code=\"c\"} 1\n");
    }
}
