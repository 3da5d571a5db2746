//! The snapshot as Prometheus text. The names and labels are a closed set; the names of backends are the operator's.

use std::collections::BTreeMap;

use crate::core::scheduling::router::RouterView;
use crate::telemetry::prometheus::Page;
use crate::telemetry::{Phase, Snapshot};

/// Renders a snapshot.
pub(super) fn render(snapshot: &Snapshot, router: Option<&RouterView>) -> String {
    let mut page = Page::default();
    let is_connected = u64::from(snapshot.phase == Phase::Connected);
    page.head("outpost_build_info", "The version of the program.", "gauge");
    page.sample("outpost_build_info", &[("version", &snapshot.version)], 1);
    page.gauge("outpost_up", "1 while the agent is connected to a coordinator.", is_connected);
    page.head("outpost_connection_up", "1 while the agent is connected to this coordinator.", "gauge");
    for coordinator in &snapshot.coordinators {
        let labels = [("coordinator", coordinator.addr.as_str())];
        page.sample("outpost_connection_up", &labels, u64::from(coordinator.connected_since.is_some()));
    }
    page.gauge("outpost_paused", "1 while the operator has paused the agent.", u64::from(snapshot.paused.is_some()));
    page.gauge("outpost_jobs_in_flight", "Jobs that were accepted and have not ended.", snapshot.in_flight);
    if let Some(router) = router {
        page.gauge("outpost_jobs_waiting", "Accepted jobs that wait for a slot.", router.waiting() as u64);
        page.gauge("outpost_jobs_kept", "Ended jobs that the coordinator has not acknowledged.", router.kept() as u64);
        page.gauge(
            "outpost_kept_bytes",
            "Response bytes that the coordinator has not acknowledged.",
            router.kept_bytes(),
        );
    }
    page.gauge("outpost_models_offered", "Models in the last capabilities sent.", snapshot.models_offered as u64);
    page.gauge("outpost_connect_failures", "Failed connection attempts in a row.", u64::from(snapshot.failures));
    page.counter("outpost_connections_total", "Connections established.", snapshot.connections);
    let resumptions = "Connections that went on with the jobs of an earlier one.";
    page.counter("outpost_resumptions_total", resumptions, snapshot.resumptions);
    let handovers = "Announcements of the coordinator that it will close a connection.";
    page.counter("outpost_handovers_total", handovers, snapshot.handovers);
    page.counter("outpost_jobs_admitted_total", "Jobs accepted.", snapshot.jobs.admitted);
    page.counter("outpost_jobs_done_total", "Jobs that ended with job_done.", snapshot.jobs.done);
    page.counter(
        "outpost_jobs_cancelled_total",
        "Jobs cancelled, or lost with their connection.",
        snapshot.jobs.cancelled,
    );
    page.counter(
        "outpost_jobs_moved_total",
        "Retries of jobs on another backend after one had failed them.",
        snapshot.jobs.moved,
    );
    let help = "Accepted jobs that ended with job_error, by code.";
    by_code(&mut page, "outpost_jobs_failed_total", help, &snapshot.jobs.failed);
    let help = "Jobs answered with job_error instead of being accepted, by code.";
    by_code(&mut page, "outpost_jobs_refused_total", help, &snapshot.jobs.refused);
    page.head("outpost_tokens_total", "Tokens of jobs done, as backends reported them.", "counter");
    page.sample("outpost_tokens_total", &[("kind", "input")], snapshot.tokens.input);
    page.sample("outpost_tokens_total", &[("kind", "output")], snapshot.tokens.output);
    page.counter("outpost_frames_skipped_total", "Frames that could not be used.", snapshot.frames_skipped);
    page.counter("outpost_stale_dropped_total", "Messages of earlier connections dropped.", snapshot.stale_dropped);
    page.counter("outpost_actors_replaced_total", "Actors that ended and were replaced.", snapshot.actors_replaced);
    let is_written = u64::from(snapshot.ledger.fault.is_none());
    page.gauge("outpost_ledger_up", "1 unless the ledger of ended jobs can't be written.", is_written);
    let help = "Jobs that are not in the ledger, because there was no room for their rows.";
    page.counter("outpost_ledger_rows_lost_total", help, snapshot.ledger.rows_lost);
    page.head("outpost_backend_up", "Whether a backend is healthy.", "gauge");
    for (name, state) in &snapshot.backends {
        page.sample("outpost_backend_up", &[("backend", name)], u64::from(state.up));
    }
    let name = "outpost_backend_breaker_opened_total";
    page.head(name, "How often a backend's circuit breaker opened.", "counter");
    for (backend, state) in &snapshot.backends {
        page.sample(name, &[("backend", backend)], state.breaker_opened);
    }
    snapshot.job_metrics.render(&mut page);
    page.finish()
}

fn by_code(page: &mut Page, name: &str, help: &str, counts: &BTreeMap<String, u64>) {
    page.head(name, help, "counter");
    for (code, count) in counts {
        page.sample(name, &[("code", code)], *count);
    }
}
