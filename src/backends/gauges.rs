//! Sums of single gauges in a page of metrics as Prometheus reads them. Does not parse everything that such a page can hold: lines
//! of other gauges are skipped. Used by `kinds`.

use super::api::ApiClient;

/// Most that is read of a page of metrics, in bytes.
const PAGE: usize = 2 * 1024 * 1024;

impl ApiClient {
    /// The sum of these gauges over all their labels, to a whole number. `None` where the page has none of them, or
    /// there is no page.
    pub(super) async fn gauges(&self, names: &[&str]) -> Option<u32> {
        let page = self.get("/metrics", PAGE).await.ok().filter(|page| page.status == 200)?;
        sum(std::str::from_utf8(&page.body).ok()?, names)
    }
}

fn sum(page: &str, names: &[&str]) -> Option<u32> {
    let values = page.lines().filter_map(|line| {
        let (name, value) = sample(line)?;
        names.contains(&name).then_some(value)
    });
    // The cast saturates.
    values.reduce(|sum, value| sum + value).map(|sum| sum.round() as u32)
}

/// A line's name and its value, which is neither negative nor infinite.
fn sample(line: &str) -> Option<(&str, f64)> {
    let (name, rest) = line.split_at(line.find(['{', ' ', '\t'])?);
    // A label's value may hold any of these signs, and none of them comes after the labels.
    let rest = rest.rsplit_once('}').map_or(rest, |(_, rest)| rest);
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine=\"0\",model_name=\"a } b {\"} 3.0
vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 1.0 1763000000000
vllm:num_requests_waiting{engine=\"0\"} 2.0
vllm:num_requests_waiting_by_reason{engine=\"0\"} 40.0
vllm:kv_cache_usage_perc{engine=\"0\"} 0.5
plain 7
negative -1
endless +Inf
";

    #[test]
    fn gauges_are_summed_over_their_labels() {
        assert_eq!(sum(PAGE, &["vllm:num_requests_running", "vllm:num_requests_waiting"]), Some(6));
        assert_eq!(sum(PAGE, &["plain"]), Some(7));
    }

    #[test]
    fn what_is_not_there_or_no_count_is_none() {
        for name in ["vllm:num_requests", "negative", "endless", "", "#"] {
            assert_eq!(sum(PAGE, &[name]), None, "{name}");
        }
        assert_eq!(sum("", &["plain"]), None);
        assert_eq!(sum("plain\nplain{\nplain{} \nplain x", &["plain"]), None);
    }
}
