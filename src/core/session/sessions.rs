//! What a session is besides its jobs: its name at the coordinator, whether it has a connection, how long it is kept without
//! one, and which jobs it has had.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::messages::ids::{Generation, JobId, SessionName};

/// The most jobs that an agent keeps in a session.
pub(crate) const MOST_KEPT: usize = 4096;
/// Ids of ended jobs that are remembered however long ago they ended.
const ALWAYS: usize = 4096;
/// Ids that are remembered at most: those that ended within the window, on an agent of a thousand jobs a second.
const AT_MOST: usize = 64 * 1024;

/// The name and the window that the coordinator gave a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Its name on the wire.
    pub name: SessionName,
    /// How long it is kept after its connection has ended.
    pub window: Duration,
}

/// Whether a session has a connection, and how long it lasts without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    /// The connection that carries its frames.
    connection: Option<Generation>,
    /// The connection whose handshake may go on with the session.
    resuming: Option<Generation>,
    /// Without a connection: what is left of the window.
    left: Left,
}

/// What is left of a session's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// It has a connection, or has not lost it.
    All,
    /// It ends then.
    Until(Instant),
    /// It stands still during a handshake that may go on with the session.
    Still(Duration),
}

impl Presence {
    /// A session on its first connection.
    pub(crate) fn on(connection: Generation) -> Self {
        Self { connection: Some(connection), resuming: None, left: Left::All }
    }

    /// The connection that carries its frames.
    pub(crate) fn connection(&self) -> Option<Generation> {
        self.connection
    }

    /// The connection whose handshake may go on with the session.
    pub(crate) fn resuming(&self) -> Option<Generation> {
        self.resuming
    }

    /// Its connection has ended.
    pub(crate) fn lost(&mut self, now: Instant, window: Duration) {
        self.connection = None;
        self.left = if self.resuming.is_some() { Left::Still(window) } else { Left::Until(now + window) };
    }

    /// A connection asks in its handshake to go on with the session.
    pub(crate) fn resume(&mut self, now: Instant, connection: Generation) {
        self.resuming = Some(connection);
        if let Left::Until(until) = self.left {
            self.left = Left::Still(until.saturating_duration_since(now));
        }
    }

    /// That handshake has failed.
    pub(crate) fn resume_failed(&mut self, now: Instant) {
        self.resuming = None;
        if let Left::Still(left) = self.left {
            self.left = Left::Until(now + left);
        }
    }

    /// When it ends, if nothing happens until then.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        match self.left {
            Left::Until(until) => Some(until),
            Left::All | Left::Still(_) => None,
        }
    }
}

/// The ids of the jobs that a session has ended: a job with such an id is not run again.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndedJobs {
    ids: HashSet<Uuid>,
    by_age: VecDeque<(Instant, Uuid)>,
}

impl EndedJobs {
    /// Remembers the id of a job that has just ended.
    pub(crate) fn add(&mut self, now: Instant, job: JobId, window: Duration) {
        if self.ids.insert(job.uuid()) {
            self.by_age.push_back((now, job.uuid()));
        }
        let is_old = |(at, _): &(Instant, Uuid)| *at + window <= now;
        while self.by_age.len() > AT_MOST || (self.by_age.len() > ALWAYS && self.by_age.front().is_some_and(is_old)) {
            if let Some((_, id)) = self.by_age.pop_front() {
                self.ids.remove(&id);
            }
        }
    }

    /// Forgets the id of a job that ended a short time ago.
    pub(crate) fn remove(&mut self, job: JobId) {
        if self.ids.remove(&job.uuid())
            && let Some(place) = self.by_age.iter().rposition(|(_, id)| *id == job.uuid())
        {
            self.by_age.remove(place);
        }
    }

    /// Whether a job has ended in this session.
    pub(crate) fn contains(&self, job: JobId) -> bool {
        !self.ids.is_empty() && self.ids.contains(&job.uuid())
    }
}

#[cfg(any(test, fuzzing))]
impl Presence {
    pub(crate) fn add_to(&self, to: &mut crate::core::fingerprint::Fingerprint<'_>) {
        let Self { connection, resuming, left } = self;
        to.add((connection.map(|id| to.connection(id)), resuming.map(|id| to.connection(id))));
        to.add(match left {
            Left::All => (0, None, None),
            Left::Until(until) => (1, Some(to.time(*until)), None),
            Left::Still(left) => (2, None, Some(left)),
        });
    }
}

#[cfg(any(test, fuzzing))]
impl EndedJobs {
    pub(crate) fn add_to(&self, session: usize, to: &mut crate::core::fingerprint::Fingerprint<'_>) {
        // Nothing is decided from their age while there are fewer than are always remembered.
        let Self { ids, by_age } = self;
        assert!(by_age.len() < ALWAYS, "more jobs than their ages can be left out for");
        for job in ids.iter().map(|id| JobId::from(*id)).filter(|job| to.is_expected(*job)).collect::<Vec<_>>() {
            to.add_of(job, ("has ended", session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_window_runs_without_a_connection_and_stands_still_in_a_handshake() {
        let (start, second) = (start(), Duration::from_secs(1));
        let mut presence = Presence::on(Generation::numbered(1));
        assert_eq!(presence.ends_at(), None);
        presence.lost(start, WINDOW);
        assert_eq!((presence.connection(), presence.ends_at()), (None, Some(start + WINDOW)));
        presence.resume(start + 10 * second, Generation::numbered(2));
        assert_eq!((presence.resuming(), presence.ends_at()), (Some(Generation::numbered(2)), None));
        presence.resume_failed(start + 40 * second);
        assert_eq!(presence.ends_at(), Some(start + 90 * second));
    }

    #[test]
    fn a_connection_that_is_lost_while_the_next_one_resumes_starts_the_window_when_that_fails() {
        let start = start();
        let mut presence = Presence::on(Generation::numbered(1));
        presence.resume(start, Generation::numbered(2));
        assert_eq!(presence.connection(), Some(Generation::numbered(1)));
        presence.lost(start, WINDOW);
        assert_eq!(presence.ends_at(), None);
        presence.resume_failed(start + WINDOW);
        assert_eq!(presence.ends_at(), Some(start + 2 * WINDOW));
    }

    #[test]
    fn ids_are_remembered_for_the_window_and_the_newest_for_longer_within_a_bound() {
        let (start, mut ended) = (start(), EndedJobs::default());
        let jobs: Vec<JobId> = (0..ALWAYS + 2).map(|_| JobId::random()).collect();
        jobs.iter().take(ALWAYS + 1).for_each(|job| ended.add(start, *job, WINDOW));
        assert!(jobs[..=ALWAYS].iter().all(|job| ended.contains(*job)));
        ended.add(start + WINDOW, jobs[ALWAYS + 1], WINDOW);
        let kept = jobs.iter().filter(|job| ended.contains(**job)).count();
        assert_eq!((kept, ended.contains(jobs[0])), (ALWAYS, false));
        (0..2 * AT_MOST).for_each(|_| ended.add(start, JobId::random(), WINDOW));
        assert_eq!((ended.ids.len(), ended.by_age.len()), (AT_MOST, AT_MOST));
        ended.add(start, jobs[0], WINDOW);
        ended.remove(jobs[0]);
        ended.remove(jobs[0]);
        assert_eq!((ended.contains(jobs[0]), ended.ids.len(), ended.by_age.len()), (false, AT_MOST - 1, AT_MOST - 1));
    }
}
