//! Where the events of a coordinator go: to the log, and to its metrics.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::sleep;

use crate::coordinator::metrics::{Gauges, Metrics};
use crate::telemetry::events::{Describe, EventLog};
use crate::telemetry::repeats::PERIOD;

/// Events of a kind that are logged one by one in a minute, if agents or clients can cause them at will: as many as a fleet
/// needs that reconnects.
const EACH: u32 = 100;

/// Takes the events of a coordinator, on any thread.
pub(crate) struct CoordinatorEvents {
    log: EventLog,
    metrics: Mutex<Metrics>,
}

impl CoordinatorEvents {
    pub(crate) fn new() -> Self {
        Self { log: EventLog::new(EACH), metrics: Mutex::default() }
    }

    /// Logs an event and counts it in the metrics. Of the events that agents or clients can cause at will only the first
    /// hundred of a kind are logged until the next [`Self::count_repeats`].
    pub(crate) fn emit(&self, event: &dyn Describe<Metrics>) {
        self.log.write(event);
        event.apply(&mut self.metrics(), SystemTime::now());
    }

    /// Logs how many events of each kind were not logged one by one.
    pub(crate) fn count_repeats(&self) {
        for repeated in self.log.next_period() {
            self.emit(&repeated);
        }
    }

    /// The page for Prometheus.
    pub(crate) fn metrics_page(&self, gauges: Gauges) -> String {
        self.metrics().render(gauges)
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        // No event leaves the metrics half changed.
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports once a minute how many events were not logged one by one.
pub(crate) async fn count_repeats_each_minute(events: &CoordinatorEvents) -> Infallible {
    loop {
        sleep(PERIOD).await;
        events.count_repeats();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::coordinator::api::error_kind::ApiErrorKind;
    use crate::coordinator::events::{AgentReplaced, CoordinatorListening, RequestRefused};

    /// How many of so many events are logged one by one.
    fn logged(events: &CoordinatorEvents, event: &dyn Describe<Metrics>, count: usize) -> usize {
        (0..count).filter(|_| events.log.write(event)).count()
    }

    #[test]
    fn a_flood_of_one_kind_is_cut_and_leaves_the_others() {
        let events = CoordinatorEvents::new();
        assert_eq!(logged(&events, &RequestRefused { cause: ApiErrorKind::Key }, 1000), 100);
        assert_eq!(logged(&events, &AgentReplaced { provider: "agent-1".parse().unwrap(), jobs_lost: 0 }, 1), 1);
        // No one else causes these.
        assert_eq!(logged(&events, &CoordinatorListening { addr: ([127, 0, 0, 1], 1).into() }, 1000), 1000);
        let counts: Vec<_> = events.log.next_period().iter().map(|repeated| repeated.count).collect();
        assert_eq!(counts, [900]);
    }

    #[actix_rt::test]
    async fn the_events_that_were_not_logged_are_reported_within_a_minute() {
        tokio::time::pause();
        let events = CoordinatorEvents::new();
        let refused = RequestRefused { cause: ApiErrorKind::Key };
        assert_eq!(logged(&events, &refused, 101), 100);
        let before = tokio::time::timeout(PERIOD - Duration::from_secs(1), count_repeats_each_minute(&events)).await;
        assert!(before.is_err() && logged(&events, &refused, 1) == 0, "the minute is not over");
        let after = tokio::time::timeout(PERIOD + Duration::from_secs(1), count_repeats_each_minute(&events)).await;
        assert!(after.is_err() && events.log.next_period().is_empty(), "the counts were reported");
    }

    #[test]
    fn an_event_that_is_not_logged_is_still_in_the_metrics() {
        let events = CoordinatorEvents::new();
        (0..1000).for_each(|_| events.emit(&RequestRefused { cause: ApiErrorKind::Key }));
        let page = events.metrics_page(Gauges { agents: 0, draining: 0, in_flight: 0, parked: 0, waiting: 0 });
        let line = r#"outpost_coordinator_requests_refused_total{cause="invalid_api_key"} 1000"#;
        assert!(page.lines().any(|found| found == line), "{page}");
    }
}
