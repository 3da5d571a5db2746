//! `outpost status`: the status of the agent on this machine.

use std::collections::BTreeMap;

use clap::Args;

use super::process::{fail, on_system, print};
use crate::app::ExitStatus;
use crate::config::{Environment, StatusAddr};
use crate::messages::untrusted::{Untrusted, UntrustedJson};
use crate::status::{self, State};
use crate::telemetry::{CoordinatorState, Snapshot};

#[derive(Args)]
pub(super) struct Status {
    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(Status { json }: &Status, env: &dyn Environment) -> ExitStatus {
    let addr = match StatusAddr::from_env(env) {
        Ok(StatusAddr::On { addr, .. }) => addr,
        Ok(StatusAddr::Off) => {
            return fail(ExitStatus::Failure, "OUTPOST_STATUS_ADDR is off: the agent has no status page");
        }
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    let status = match on_system(status::fetch(addr)) {
        Ok(status) => status,
        Err(error) => return fail(ExitStatus::Failure, error),
    };
    if *json {
        let text = serde_json::to_string_pretty(&status).unwrap_or_default();
        return print(&format!("{}\n", UntrustedJson(&text)));
    }
    print(&(sentence(status.state.as_ref()) + &summary(&status.snapshot)))
}

/// The state in words, and what to do.
fn sentence(state: Option<&State>) -> String {
    let Some(State { text, advice, .. }) = state else { return String::new() };
    let advice = advice.as_ref().map(|advice| format!("{}\n", Untrusted(advice))).unwrap_or_default();
    format!("{}\n{advice}\n", Untrusted(text))
}

/// A snapshot as text for people. Any process may have answered on the port, so every text in it is escaped.
fn summary(snapshot: &Snapshot) -> String {
    let mut lines = vec![
        format!(
            "outpost {} · {:?} · {}",
            Untrusted(&snapshot.version),
            snapshot.phase,
            Untrusted(&snapshot.coordinator)
        ),
        format!("provider id   {}", Untrusted(snapshot.provider_id.as_deref().unwrap_or("none yet"))),
        format!("public key    {}", Untrusted(&snapshot.pubkey)),
    ];
    if snapshot.coordinators.len() > 1 {
        lines.extend(snapshot.coordinators.iter().map(coordinator));
    } else if let Some(since) = &snapshot.connected_since {
        lines.push(format!("connected     since {}, connection {}", Untrusted(since), snapshot.generation));
    }
    if let Some(cause) = &snapshot.last_disconnect {
        lines.push(format!("last end      {}", Untrusted(cause)));
    }
    let (failed, refused) = (sum(&snapshot.jobs.failed), sum(&snapshot.jobs.refused));
    lines.push(format!(
        "jobs          {} running, {} done, {failed} failed, {} cancelled, {refused} refused",
        snapshot.in_flight, snapshot.jobs.done, snapshot.jobs.cancelled
    ));
    lines.push(format!("tokens        {} in, {} out", snapshot.tokens.input, snapshot.tokens.output));
    for (name, backend) in &snapshot.backends {
        let models: Vec<String> = backend.models.iter().map(|model| Untrusted(model.as_str()).to_string()).collect();
        let cause = Untrusted(backend.cause.as_deref().unwrap_or_default()).to_string();
        let (state, details) = if backend.up { ("up", models.join(", ")) } else { ("down", cause) };
        lines.push(format!("backend       {} {state}: {details}", Untrusted(name)));
    }
    lines.join("\n") + "\n"
}

/// One of several coordinators.
fn coordinator(state: &CoordinatorState) -> String {
    let provider = Untrusted(state.provider_id.as_deref().unwrap_or("none yet")).to_string();
    let connection = match (&state.connected_since, &state.last_disconnect) {
        (Some(since), _) => format!("connected since {}, connection {}", Untrusted(since), state.generation),
        (None, Some(cause)) => format!("not connected: {}", Untrusted(cause)),
        (None, None) => "not connected yet".to_owned(),
    };
    format!("coordinator   {}, provider id {provider}, {connection}", Untrusted(&state.addr))
}

fn sum(by_code: &BTreeMap<String, u64>) -> u64 {
    by_code.values().fold(0, |sum, count| sum.saturating_add(*count))
}
