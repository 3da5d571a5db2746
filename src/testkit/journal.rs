//! The events of an agent, in order, and the snapshot that they result in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::telemetry::{Event, Events, Snapshot};

/// The events of one agent.
pub(super) struct Journal {
    log: Arc<Mutex<Vec<LoggedEvent>>>,
    pub(super) snapshots: watch::Receiver<Snapshot>,
    /// Events before this were read by [`Journal::next`].
    seen: usize,
}

/// An event and its time.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// When it happened.
    pub at: Instant,
    /// What happened.
    pub event: Event,
}

/// Which events the sink panics at.
pub(super) type Trap = Arc<dyn Fn(&Event) -> bool + Send + Sync>;

impl Journal {
    pub(super) fn new(trap: Option<Trap>) -> (Self, Events) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let (snapshot, snapshots) = watch::channel(Snapshot::default());
        let sink = {
            let log = Arc::clone(&log);
            move |event: Event| {
                let sprung = trap.as_ref().is_some_and(|trap| trap(&event));
                snapshot.send_modify(|state| {
                    event.apply(state, UNIX_EPOCH);
                    state.in_flight = in_flight(state);
                });
                lock(&log).push(LoggedEvent { at: Instant::now(), event });
                assert!(!sprung, "an actor panics at its event, as the test wants it");
            }
        };
        (Self { log, snapshots, seen: 0 }, Events::new(sink))
    }

    pub(super) fn all(&self) -> Vec<LoggedEvent> {
        lock(&self.log).clone()
    }

    /// The next event for which `wanted` has a value, if it has happened.
    pub(super) fn next<T>(&mut self, wanted: &mut impl FnMut(&Event) -> Option<T>) -> Option<T> {
        let log = lock(&self.log);
        for entry in log.iter().skip(self.seen) {
            self.seen += 1;
            if let Some(value) = wanted(&entry.event) {
                return Some(value);
            }
        }
        None
    }
}

/// Jobs that were admitted and have not ended, by the counts.
fn in_flight(state: &Snapshot) -> u64 {
    let failed: u64 = state.jobs.failed.values().sum();
    state.jobs.admitted.saturating_sub(state.jobs.done + state.jobs.cancelled + failed)
}

fn lock(log: &Mutex<Vec<LoggedEvent>>) -> MutexGuard<'_, Vec<LoggedEvent>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
