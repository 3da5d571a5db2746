//! The state of an agent in one sentence, as a person would say it, and what to do where it is not good.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::core::scheduling::router::RouterView;
use crate::telemetry::{BackendState, CoordinatorState, PauseState, Phase, Snapshot};

/// How good a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// It works, or waits for work.
    Good,
    /// It works, and something else needs the operator.
    Attention,
    /// It can't work.
    Bad,
}

/// The state of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) level: Level,
    /// One sentence.
    pub(crate) text: String,
    /// What to do, unless the state is good.
    pub(crate) advice: Option<String>,
}

/// What the router adds to the snapshot.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    jobs: u64,
    events_per_s: f64,
}

impl State {
    /// The state at `now`. Without a router's view only the snapshot counts.
    pub(super) fn of(snapshot: &Snapshot, router: Option<&RouterView>, now: SystemTime) -> Self {
        let work = router.map_or(Work { jobs: snapshot.in_flight, events_per_s: 0.0 }, |view| Work {
            jobs: view.in_flight() as u64,
            events_per_s: view.events_per_s(),
        });
        state(snapshot, work, now)
    }
}

fn state(snapshot: &Snapshot, work: Work, now: SystemTime) -> State {
    match snapshot.phase {
        Phase::Starting => good("Starting.".to_owned()),
        Phase::Stopped => bad("Stopped.".to_owned(), "Start it again, if that was not meant.".to_owned()),
        Phase::Draining => good(format!("Stopping: {} still running, and no new ones are taken.", jobs(work.jobs))),
        Phase::Connecting | Phase::Connected | Phase::Waiting => {
            let connected = snapshot.coordinators.iter().any(|it| it.connected_since.is_some());
            match connected {
                false => disconnected(snapshot, now),
                true if let Some(pause) = &snapshot.paused => paused(snapshot, pause, work, now),
                true if snapshot.models_offered == 0 => nothing_on_offer(snapshot, now),
                true => working(snapshot, work, now),
            }
        }
    }
}

fn disconnected(snapshot: &Snapshot, now: SystemTime) -> State {
    let Some(first) = snapshot.coordinators.iter().find(|it| it.last_disconnect.is_some()) else {
        return good(format!("Connecting to {}.", snapshot.coordinator));
    };
    let cause = first.last_disconnect.as_deref().unwrap_or_default();
    let time = first.disconnected_since.as_deref().map(|since| for_time(since, now)).unwrap_or_default();
    let advice =
        first.advice.clone().unwrap_or_else(|| "There is nothing to do: it connects again by itself.".to_owned());
    let paused = if snapshot.paused.is_some() { " It is paused by you, too." } else { "" };
    bad(format!("Not connected to {}{time}: {cause}.{paused}", first.addr), advice)
}

fn paused(snapshot: &Snapshot, pause: &PauseState, work: Work, now: SystemTime) -> State {
    let until = pause.until.as_deref().and_then(|until| humantime::parse_rfc3339_weak(until).ok());
    let left = until.and_then(|until| until.duration_since(now).ok()).map(|left| left.as_secs());
    let left = left.map(|left| format!(" for another {}", length(left.max(1), u64::div_ceil))).unwrap_or_default();
    let jobs = if work.jobs > 0 { format!(" {} still running.", jobs(work.jobs)) } else { String::new() };
    let how = "`outpost resume` ends it.";
    good(format!("Paused by you{left}: nothing is offered, connected to {}.{jobs} {how}", names(snapshot)))
}

fn nothing_on_offer(snapshot: &Snapshot, now: SystemTime) -> State {
    let start = "Start a server such as Ollama or llama.cpp, or name yours in OUTPOST_BACKENDS.";
    let but = |why: String, advice: &str| {
        bad(format!("Connected to {}, but no model is on offer: {why}.", names(snapshot)), advice.to_owned())
    };
    let mut down = snapshot.backends.iter().filter(|(_, backend)| !backend.up);
    match (snapshot.backends.iter().find(|(_, backend)| backend.up), down.next()) {
        (Some((name, backend)), _) if backend.models.is_empty() => {
            but(format!("{name} has no model"), "Load or pull a model there.")
        }
        (Some((name, _)), _) => but(
            format!("no model of {name} can be offered now"),
            "See the server below: its slots may be used by others, its circuit breaker open, or its models not priced.",
        ),
        (None, Some((name, backend))) => but(is_down(name, backend, now), "Start it, or correct OUTPOST_BACKENDS."),
        (None, None) => but("no inference server was found on this machine".to_owned(), start),
    }
}

fn working(snapshot: &Snapshot, work: Work, now: SystemTime) -> State {
    let since = snapshot.connected_since.as_deref().map(|since| for_time(since, now)).unwrap_or_default();
    let connected = format!("connected to {}{since}", names(snapshot));
    let text = match work.jobs {
        0 => format!("Ready: {} on offer, {connected}.", counted(snapshot.models_offered as u64, "model")),
        // About a token an event.
        _ if work.events_per_s >= 1.0 => {
            format!("Working: {}, {:.0} tokens/s, {connected}.", jobs(work.jobs), work.events_per_s)
        }
        _ => format!("Working: {}, {connected}.", jobs(work.jobs)),
    };
    match concern(snapshot, now) {
        None => good(text),
        Some((concern, advice)) => {
            State { level: Level::Attention, text: format!("{text} {concern}."), advice: Some(advice) }
        }
    }
}

/// What needs the operator while the agent works: the most important thing.
fn concern(snapshot: &Snapshot, now: SystemTime) -> Option<(String, String)> {
    if let Some(lost) = snapshot.coordinators.iter().find(|it| is_lost(it)) {
        let cause = lost.last_disconnect.as_deref().unwrap_or_default();
        let advice = lost.advice.clone().unwrap_or_else(|| "It connects again by itself.".to_owned());
        return Some((format!("But {} is not connected: {cause}", lost.addr), advice));
    }
    if let Some((name, backend)) = snapshot.backends.iter().find(|(_, backend)| !backend.up) {
        return Some((
            format!("But {}", is_down(name, backend, now)),
            "Start it, or correct OUTPOST_BACKENDS.".to_owned(),
        ));
    }
    let fault = snapshot.ledger.fault.as_ref()?;
    let advice = "Make room on the disk, or correct OUTPOST_LEDGER_PATH.".to_owned();
    Some((format!("But its ledger can't be written: {fault}"), advice))
}

fn is_lost(coordinator: &CoordinatorState) -> bool {
    coordinator.connected_since.is_none() && coordinator.last_disconnect.is_some()
}

fn is_down(name: &str, backend: &BackendState, now: SystemTime) -> String {
    let time = backend.since.as_deref().map(|since| for_time(since, now)).unwrap_or_default();
    match &backend.cause {
        Some(cause) => format!("{name} is down{time} ({cause})"),
        None => format!("{name} is down{time}"),
    }
}

/// The coordinators that are connected.
fn names(snapshot: &Snapshot) -> String {
    let connected = snapshot.coordinators.iter().filter(|it| it.connected_since.is_some());
    let mut names: Vec<&str> = connected.map(|it| it.addr.as_str()).collect();
    match names.len() {
        0..=2 => names.join(" and "),
        more => {
            names.truncate(1);
            format!("{} and {} more", names[0], more - 1)
        }
    }
}

fn jobs(count: u64) -> String {
    counted(count, "job")
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// " for 6 days". Nothing for less than two seconds, or a time that can't be read.
fn for_time(since: &str, now: SystemTime) -> String {
    let time = humantime::parse_rfc3339_weak(since).ok().and_then(|since| now.duration_since(since).ok());
    let seconds = time.unwrap_or(Duration::ZERO).as_secs();
    if seconds < 2 { String::new() } else { format!(" for {}", length(seconds, |time, unit| time / unit)) }
}

/// A time in the largest unit of which there are two: 90 minutes say more than 1 hour.
fn length(seconds: u64, divide: fn(u64, u64) -> u64) -> String {
    let units = [(24 * 3600, "day"), (3600, "hour"), (60, "minute")];
    match units.into_iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, name)) => counted(divide(seconds, unit), name),
        None => counted(seconds, "second"),
    }
}

fn good(text: String) -> State {
    State { level: Level::Good, text, advice: None }
}

fn bad(text: String, advice: String) -> State {
    State { level: Level::Bad, text, advice: Some(advice) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// The moment of all these states: a day after 1970.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(24 * 3600)
    }

    fn ago(seconds: u64) -> Option<String> {
        Some(humantime::format_rfc3339_seconds(now() - Duration::from_secs(seconds)).to_string())
    }

    fn coordinator(addr: &str, connected: bool) -> CoordinatorState {
        CoordinatorState {
            addr: addr.into(),
            connected_since: ago(7200).filter(|_| connected),
            last_disconnect: Some("no connection: connection refused".to_owned()).filter(|_| !connected),
            disconnected_since: ago(180).filter(|_| !connected),
            advice: Some("Check the host.".to_owned()).filter(|_| !connected),
            ..CoordinatorState::default()
        }
    }

    fn backend(up: bool, models: &[&str]) -> BackendState {
        BackendState {
            up,
            since: ago(720),
            models: models.iter().copied().map(Into::into).collect(),
            cause: Some("connection refused".to_owned()).filter(|_| !up),
            ..BackendState::default()
        }
    }

    fn connected(models_offered: usize) -> Snapshot {
        Snapshot {
            phase: Phase::Connected,
            coordinators: vec![coordinator("coordinator.example:443", true)],
            connected_since: ago(7200),
            models_offered,
            backends: [("ollama".to_owned(), backend(true, &["m"]))].into(),
            ..Snapshot::default()
        }
    }

    fn said(snapshot: &Snapshot, work: Work) -> (Level, String, String) {
        let State { level, text, advice } = state(snapshot, work, now());
        assert_eq!(level == Level::Good, advice.is_none(), "every state that is not good says what to do");
        (level, text, advice.unwrap_or_default())
    }

    fn idle(snapshot: &Snapshot) -> (Level, String, String) {
        said(snapshot, Work::default())
    }

    #[test]
    fn an_agent_with_work_says_how_much() {
        let working = said(&connected(2), Work { jobs: 3, events_per_s: 112.4 });
        let text = "Working: 3 jobs, 112 tokens/s, connected to coordinator.example:443 for 2 hours.";
        assert_eq!((working.0, working.1.as_str()), (Level::Good, text));
        let begins = said(&connected(2), Work { jobs: 1, events_per_s: 0.0 }).1;
        assert_eq!(begins, "Working: 1 job, connected to coordinator.example:443 for 2 hours.");
    }

    #[test]
    fn an_agent_without_work_says_what_it_offers() {
        assert_eq!(idle(&connected(1)).1, "Ready: 1 model on offer, connected to coordinator.example:443 for 2 hours.");
    }

    #[test]
    fn without_an_offer_the_cause_is_named() {
        let mut snapshot = connected(0);
        snapshot.backends = [("ollama".to_owned(), backend(false, &[]))].into();
        let (level, text, advice) = idle(&snapshot);
        let expected = "Connected to coordinator.example:443, but no model is on offer: ollama is down for 12 minutes (connection refused).";
        assert_eq!(
            (level, text.as_str(), advice.as_str()),
            (Level::Bad, expected, "Start it, or correct OUTPOST_BACKENDS.")
        );
        snapshot.backends = [("ollama".to_owned(), backend(true, &[]))].into();
        assert!(idle(&snapshot).1.ends_with("no model is on offer: ollama has no model."));
        snapshot.backends.clear();
        assert!(idle(&snapshot).1.ends_with("no inference server was found on this machine."));
        assert!(idle(&connected(0)).1.ends_with("no model of ollama can be offered now."));
    }

    #[test]
    fn without_a_connection_the_cause_is_named() {
        let lost = Snapshot {
            phase: Phase::Waiting,
            coordinators: vec![coordinator("coordinator.example:443", false)],
            ..Snapshot::default()
        };
        let text = "Not connected to coordinator.example:443 for 3 minutes: no connection: connection refused.";
        assert_eq!(idle(&lost), (Level::Bad, text.to_owned(), "Check the host.".to_owned()));
        let paused = Snapshot { paused: Some(PauseState { until: None }), ..lost };
        assert_eq!(idle(&paused).1, format!("{text} It is paused by you, too."));
        let first = Snapshot { phase: Phase::Connecting, coordinator: "a:1".into(), ..Snapshot::default() };
        assert_eq!(idle(&first).1, "Connecting to a:1.");
    }

    #[test]
    fn what_needs_attention_is_said_while_it_works() {
        let mut snapshot = connected(1);
        snapshot.ledger.fault = Some("the disk is full".to_owned());
        assert_eq!(idle(&snapshot).0, Level::Attention);
        assert!(idle(&snapshot).1.ends_with("But its ledger can't be written: the disk is full."));
        snapshot.backends.insert("vllm".to_owned(), backend(false, &[]));
        assert!(idle(&snapshot).1.ends_with("But vllm is down for 12 minutes (connection refused)."));
        snapshot.coordinators.push(coordinator("other.example:443", false));
        let (_, text, advice) = idle(&snapshot);
        assert!(text.ends_with("But other.example:443 is not connected: no connection: connection refused."));
        assert_eq!(advice, "Check the host.");
    }

    #[test]
    fn a_pause_says_how_long_it_lasts() {
        let mut snapshot = Snapshot { paused: Some(PauseState { until: None }), ..connected(0) };
        let text = "Paused by you: nothing is offered, connected to coordinator.example:443. `outpost resume` ends it.";
        assert_eq!(idle(&snapshot), (Level::Good, text.to_owned(), String::new()));
        let until = humantime::format_rfc3339_seconds(now() + Duration::from_secs(7200)).to_string();
        snapshot.paused = Some(PauseState { until: Some(until) });
        let text = said(&snapshot, Work { jobs: 1, events_per_s: 9.0 }).1;
        let expected = "Paused by you for another 2 hours: nothing is offered, connected to coordinator.example:443. 1 job still running.";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn the_start_and_the_end_have_sentences() {
        let in_phase = |phase| Snapshot { phase, ..connected(1) };
        assert_eq!(idle(&in_phase(Phase::Starting)).1, "Starting.");
        let stopping = said(&in_phase(Phase::Draining), Work { jobs: 2, events_per_s: 0.0 }).1;
        assert_eq!(stopping, "Stopping: 2 jobs still running, and no new ones are taken.");
        assert_eq!(idle(&in_phase(Phase::Stopped)).0, Level::Bad);
    }

    #[test]
    fn times_are_in_the_largest_unit_of_which_there_are_two() {
        for (seconds, text) in [
            (1, ""),
            (2, " for 2 seconds"),
            (119, " for 119 seconds"),
            (120, " for 2 minutes"),
            (7199, " for 119 minutes"),
            (86_400, " for 24 hours"),
        ] {
            assert_eq!(for_time(&ago(seconds).unwrap(), now()), text);
        }
        assert_eq!(for_time("yesterday", now()), "");
    }
}
