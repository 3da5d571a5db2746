//! Limits the log lines that agents can cause at will. Used by their sessions.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::telemetry::repeats::{PERIOD, Repeats};

/// Lines of a kind that are logged one by one in a minute: as many as a fleet needs that reconnects.
const EACH: u32 = 100;

/// Which lines of all agents are logged.
pub(crate) struct PeerLog(Mutex<(Instant, Repeats<&'static str>)>);

impl PeerLog {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new((now, Repeats::new(EACH))))
    }

    /// Whether a line of this kind is logged. The others are counted; the first line after the minute logs the counts.
    pub(crate) fn admits(&self, kind: &'static str, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, repeats) = &mut *state;
        let ended = if now.saturating_duration_since(*since) < PERIOD {
            Vec::new()
        } else {
            *since = now;
            repeats.next_period()
        };
        let is_admitted = repeats.note(kind);
        drop(state);
        log_counts(ended);
        is_admitted
    }

    /// Logs the counts of the last minute.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = state.1.next_period();
        drop(state);
        log_counts(ended);
    }
}

fn log_counts(counts: Vec<(&'static str, u64)>) {
    for (kind, count) in counts {
        log::warn!("more events of one kind event={kind:?} count={count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_cut_and_leaves_the_others() {
        let start = Instant::now();
        let log = PeerLog::new(start);
        assert_eq!((0..1000).filter(|_| log.admits("agent refused", start)).count(), 100);
        assert!(log.admits("agent connected", start));
        assert!(log.admits("agent refused", start + PERIOD));
    }
}
